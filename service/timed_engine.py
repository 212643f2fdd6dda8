"""An engine whose calls are timed: what warm-up runs, so that the cost model starts from measurements."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.base import AnswerWork, DocumentWork, Engine, PrefixKV, PromptKV
from service.cost import Measurement


class TimedEngine:
    """Any engine, and what each of its calls took."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock
        self.measurements: list[Measurement] = []

    @property
    def num_row_tokens(self) -> int:
        """As the engine counts."""
        return self._engine.num_row_tokens

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """As the engine does."""
        began = self._clock()
        computed = self._engine.prefill_prefixes(prefixes)
        self.measurements.append((sum(map(len, prefixes)), self._clock() - began))
        return computed

    def score_documents(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        """As the engine does."""
        began = self._clock()
        label_logits = self._engine.score_documents(documents)
        self.measurements.append((sum(len(work.ids) for work in documents), self._clock() - began))
        return label_logits

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        """As the engine does; not measured, since copying is in it."""
        return self._engine.keep_documents(documents)

    def extend_answers(self, answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        """As the engine does; not measured: scoring is what is learned."""
        return self._engine.extend_answers(answers)

    def close(self) -> None:
        """As the engine does."""
        self._engine.close()
