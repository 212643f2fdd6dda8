"""The contract between whatever schedules pairs and whatever runs the model.

Two calls make a score, both on many prompts at once:

    prefixes = engine.prefill_prefixes([ids, ...])             KV of each query, computed once
    logits = engine.score_documents([DocumentWork(...), ...])  one row per pair, read at its last token

An engine sees token ids only, keeps no state between calls but its weights, and gives a pair the same logits
whatever it is computed with. It is driven by one thread at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class PrefixKV:
    """Keys and values of one prefix segment, per layer, behind one null slot.

    `keys[l]` and `values[l]` are [1, num_kv_heads, 1 + num_tokens, head_dim].
    """

    num_tokens: int
    keys: tuple[NDArray[np.generic], ...]
    values: tuple[NDArray[np.generic], ...]

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return sum(array.nbytes for array in (*self.keys, *self.values))


@dataclass(frozen=True, slots=True, eq=False)
class DocumentWork:
    """One pair to score: its document segment's ids and the KV of its prefix."""

    prefix: PrefixKV
    ids: tuple[int, ...]


class Engine(Protocol):
    """A loaded model."""

    @property
    def num_row_tokens(self) -> int:
        """Tokens of all rows computed so far, padding included; so of tokens given, if nothing is padded."""
        ...

    def prefill_prefixes(self, prefixes: Sequence[Sequence[int]]) -> list[PrefixKV]:
        """KV of each prefix segment (ids, at least one token), in order."""
        ...

    def score_documents(self, documents: Sequence[DocumentWork]) -> NDArray[np.float32]:
        """Label logits [N, K] of N document segments, in order; N >= 1."""
        ...

    def close(self) -> None:
        """Free the model; no call may follow."""
        ...
