"""A model that says what a text's length says, and can be made to stop."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relevance.artifact import Artifact, load_artifact
from relevance.pair import Pair
from scale.bulk_model import Judged

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"


class Killed(BaseException):
    """What nothing catches: the process is gone."""


class LengthModel:
    """Judges by length; refuses one word; is killed at a call."""

    def __init__(self, killed_at_call: int = 0) -> None:
        self.pairs: list[Pair] = []
        self.num_tokens = 0
        self._killed_at_call, self._num_calls = killed_at_call, 0

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        self._num_calls += 1
        if self._num_calls == self._killed_at_call:
            raise Killed
        if any("unrenderable" in pair.document for pair in pairs):
            raise ValueError("the template has no place for it")
        self.pairs += pairs
        self.num_tokens += sum(len(pair.document) for pair in pairs)
        high = np.array([len(pair.document) % 7 / 10 for pair in pairs])
        none = np.zeros_like(high)
        return Judged(np.stack([1 - high, none, none, high], axis=1), [None] * len(pairs))


def tiny() -> Artifact:
    return load_artifact(TINY)
