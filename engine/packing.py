"""Many prompts in one row: which pack a document goes into, and who may look at whom inside it.

A row of S tokens holds whole segments one after the other. Behind it lie P past slots: slot 0, the null slot
nobody sees, then the KV of the pack's distinct prefixes. A token looks at its own segment and at its own
prefix; everything else is hidden by the bias, so nothing is padded and no pair touches another.

    past:  | null | prefix a | prefix b |     row:  | doc 1 (a) | doc 2 (a) | doc 3 (b) |

Pure numpy; no model, no clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from relevance.attention import Attention

NUM_NULL_SLOTS = 1

# On a CPU, rows of 128 tokens score as many pairs a second as longer ones (docs/tuning.md), and sooner.
DEFAULT_PACK_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive new tokens of one prompt."""

    ids: Sequence[int]
    past_start: int
    """First past slot it sees."""
    past_length: int
    """How many it sees: the length of its prefix."""
    num_suffix: int = 0
    """How many of its last tokens are the prompt's suffix; 0 for a prefix."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """The graph inputs of one pack but for the past itself."""

    input_ids: NDArray[np.int64]  # [1, S]
    position_ids: NDArray[np.int64]  # [1, S]
    attention_bias: NDArray[np.float32]  # [1, 1, S, P + S]
    last_positions: NDArray[np.int64]  # [N], the last token of each segment
    lower_bias: NDArray[np.float32] | None = None  # as attention_bias, of the lower layers under `late` attention
    compared_tokens: NDArray[np.float32] | None = None  # [N, S], 1 for the document's own tokens; `late` only


def plan_packs(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices grouped in order so that each group's lengths sum to at most `max_tokens`; at least one a group."""
    packs: list[list[int]] = []
    room = 0
    for index, length in enumerate(lengths):
        if not packs or length > room:
            packs.append([])
            room = max_tokens
        packs[-1].append(index)
        room -= length
    return packs


def build_row(segments: Sequence[Segment], num_past: int, attention: Attention, masked_bias: float) -> Row:
    """Pack `segments` (at least one, none empty) into one row behind `num_past` past slots.

    `attention` says what a token sees of its own segment and of its prefix: see `relevance.attention`.
    """
    if attention == "late":
        return _build_late_row(segments, num_past, masked_bias)
    return _build_plain_row(segments, num_past, attention, masked_bias)


def _build_plain_row(segments: Sequence[Segment], num_past: int, attention: Attention, masked_bias: float) -> Row:
    lengths = [len(segment.ids) for segment in segments]
    ends = np.cumsum(lengths)
    num_tokens = int(ends[-1])
    bias = np.full((num_tokens, num_past + num_tokens), masked_bias, dtype=np.float32)
    position_ids = np.empty(num_tokens, dtype=np.int64)
    earlier = np.tri(max(lengths), dtype=bool)
    for segment, length, end in zip(segments, lengths, ends.tolist(), strict=True):
        start = end - length
        own = bias[start:end, num_past + start : num_past + end]
        past = bias[start:end, segment.past_start : segment.past_start + segment.past_length]
        past[:] = 0.0
        if attention == "causal":
            own[earlier[:length, :length]] = 0.0
        else:
            own[:] = 0.0
        position_ids[start:end] = np.arange(segment.past_length, segment.past_length + length)
    ids = chain.from_iterable([segment.ids for segment in segments])  # no Python step for each token
    input_ids = np.fromiter(ids, dtype=np.int64, count=num_tokens)
    return Row(input_ids[None], position_ids[None], bias[None, None], (ends - 1).astype(np.int64))


def _build_late_row(segments: Sequence[Segment], num_past: int, masked_bias: float) -> Row:
    """The upper layers' row is that of `segment`; below, a document sees itself only, numbered from 0."""
    row = _build_plain_row(segments, num_past, "segment", masked_bias)
    lower = row.attention_bias.copy()
    compared = np.zeros((len(segments), row.input_ids.shape[1]), dtype=np.float32)
    for index, (segment, last) in enumerate(zip(segments, row.last_positions.tolist(), strict=True)):
        start = last + 1 - len(segment.ids)
        row.position_ids[0, start : last + 1] -= segment.past_length
        if segment.num_suffix:
            body = last + 1 - segment.num_suffix
            lower[0, 0, start:body, :num_past] = masked_bias
            lower[0, 0, start:body, num_past + body : num_past + last + 1] = masked_bias
            compared[index, start:body] = 1.0
    return replace(row, lower_bias=lower, compared_tokens=compared)
