"""The contract between whatever schedules pairs and whatever runs the model.

Two calls make a score, both on many prompts at once:

    prefixes = engine.prefill_prefixes([ids, ...])             KV of each query, computed once
    logits = engine.score_documents([DocumentWork(...), ...])  one row per pair, read at its last token

and two more an explanation, which goes on from a prompt whose KV is there:

    logits, kept = engine.keep_documents([DocumentWork(...), ...])      the same scores, and pairs' KV
    logits = engine.extend_answers([AnswerWork(AnswerKV(kept[0]), ids), ...])   next-token logits of each answer

An engine sees token ids only, keeps no state between calls but its weights, and gives a pair the same logits
whatever it is computed with. It is driven by one thread at a time. What an answer has said lives in its AnswerKV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Slots of an answer's first arrays: most explanations fit them.
_LEAST_ROOM = 64
# Rows of answers grow by so many slots.
_ROOM_STEP = 64


def room_for(num_slots: int) -> int:
    """Slots of the row that an answer of so many takes: answers of one room are quickest together."""
    return -(-num_slots // _ROOM_STEP) * _ROOM_STEP


class KVArray(Protocol):
    """Keys or values of a layer: a numpy array, or what stands for one that lies on a device."""

    @property
    def nbytes(self) -> int:
        """Memory held."""
        ...

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[np.generic]:
        """A part, in this process's memory."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PrefixKV:
    """Keys and values of one prefix segment, per layer, behind one null slot.

    `keys[l]` and `values[l]` are [1, num_kv_heads, 1 + num_tokens, head_dim].
    """

    num_tokens: int
    keys: tuple[KVArray, ...]
    values: tuple[KVArray, ...]

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return sum(array.nbytes for array in (*self.keys, *self.values))


@dataclass(frozen=True, slots=True, eq=False)
class DocumentWork:
    """One pair to score: its document segment's ids and the KV of its prefix."""

    prefix: PrefixKV
    ids: tuple[int, ...]
    keeps_kv: bool = False
    """Of `keep_documents`: hand back its KV."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptKV:
    """Keys and values of one whole pair: its prefix's, shared with other pairs, and its document segment's own.

    `keys[l]` and `values[l]` are [1, num_kv_heads, num_document_tokens, head_dim], without a null slot.
    """

    prefix: PrefixKV
    num_document_tokens: int
    """Of the document segment, suffix included."""
    keys: Sequence[NDArray[np.generic]]
    values: Sequence[NDArray[np.generic]]

    @property
    def num_bytes(self) -> int:
        """Memory held beside the prefix's."""
        return sum(array.nbytes for array in (*self.keys, *self.values))

    def copy(self) -> "PromptKV":
        """The same in memory of its own: what an engine hands over may be a view of a whole pack's."""
        keys, values = ([array.copy() for array in arrays] for arrays in (self.keys, self.values))
        return PromptKV(self.prefix, self.num_document_tokens, keys, values)


class AnswerKV:
    """Keys and values of what one answer has said so far, behind its prompt's; grown by the engine alone.

    Arrays as those of a PromptKV, with spare room at their end, so that a token seldom costs a copy.
    """

    __slots__ = ("__weakref__", "arrays", "num_tokens", "prompt")

    def __init__(self, prompt: PromptKV) -> None:
        self.prompt = prompt
        self.num_tokens = 0
        self.arrays: list[NDArray[np.generic]] = []
        """(key, value) by turns, layer by layer; empty before the first token."""

    def append(self, present: Sequence[NDArray[np.generic]], start: int, end: int) -> None:
        """Take slots [start, end) of each of `present` (key, value by turns) as the next tokens'."""
        num_tokens = self.num_tokens + end - start
        if not self.arrays or num_tokens > self.arrays[0].shape[2]:
            self._make_room(present, num_tokens)
        for array, source in zip(self.arrays, present, strict=True):
            array[:, :, self.num_tokens : num_tokens] = source[:, :, start:end]
        self.num_tokens = num_tokens

    def _make_room(self, like: Sequence[NDArray[np.generic]], num_tokens: int) -> None:
        room = max(_LEAST_ROOM, 2 * num_tokens)
        grown = [np.empty((*one.shape[:2], room, one.shape[3]), dtype=one.dtype) for one in like]
        for new, old in zip(grown, self.arrays, strict=False):
            new[:, :, : self.num_tokens] = old[:, :, : self.num_tokens]
        self.arrays = grown

    @property
    def num_slots(self) -> int:
        """Of prompt and answer together."""
        return self.prompt.prefix.num_tokens + self.prompt.num_document_tokens + self.num_tokens

    @property
    def num_bytes(self) -> int:
        """Memory held beside the prompt's, spare room included."""
        return sum(array.nbytes for array in self.arrays)


@dataclass(frozen=True, slots=True, eq=False)
class AnswerWork:
    """The next tokens of one answer, at least one; each sees the prompt and what was said before it."""

    answer: AnswerKV
    ids: Sequence[int]
    wanted: NDArray[np.int64] | None = None
    """The tokens [A] whose logits are asked for; None: all of the vocabulary."""


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

    def keep_documents(self, documents: Sequence[DocumentWork]) -> tuple[NDArray[np.float32], list[PromptKV | None]]:
        """As `score_documents`, and the KV of each pair that asks for it; None of the others.

        What is kept for long must be copied (`PromptKV.copy`).
        """
        ...

    def extend_answers(self, answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
        """Next-token logits of N different answers once each has grown by its ids, those it wants: [A] each; N >= 1."""
        ...

    def close(self) -> None:
        """Free the model; no call may follow."""
        ...
