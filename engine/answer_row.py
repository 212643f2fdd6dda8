"""Answers that go on, many in one row: what lies in the past, and which of it each token sees.

A token of an answer sees its prompt, prefix and document segment alike, what its answer said before, and of the new
tokens its own answer's up to itself; under every attention, in every layer. Prompts that share a prefix, and answers
that share a prompt, share its slots.

    past:  | null | prefix a | document 1 | answer 1 | document 2 | answer 2 |      row:  | answer 1 | answer 2 |

Positions go on where the prompt's ended: under `late` attention from the document's own, which begin at 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from engine.base import AnswerWork, KVArray
from engine.packing import NUM_NULL_SLOTS, Row
from relevance.attention import Attention

Arrays = Sequence[KVArray]
"""(key, value) by turns, layer by layer."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive slots that several answers may see: `length` of each of `arrays` from `offset` on."""

    arrays: Arrays
    offset: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What lies behind the null slot, in order, and the slots each answer sees."""

    blocks: Sequence[Block]
    seen: Sequence[Sequence[slice]]

    @property
    def num_slots(self) -> int:
        """The null slot included."""
        return NUM_NULL_SLOTS + sum(block.length for block in self.blocks)


def plan_past(answers: Sequence[AnswerWork]) -> Past:
    """Lay out the KV that `answers` see, each distinct prefix and prompt once."""
    blocks: list[Block] = []
    places: dict[int, slice] = {}
    end = NUM_NULL_SLOTS
    seen: list[list[slice]] = []
    for work in answers:
        prompt, own = work.answer.prompt, work.answer
        parts: list[tuple[object, Arrays, int]] = [
            (prompt.prefix, _by_turns(prompt.prefix.keys, prompt.prefix.values), NUM_NULL_SLOTS),
            (prompt, _by_turns(prompt.keys, prompt.values), 0),
            (own, own.arrays, 0),
        ]
        lengths = (prompt.prefix.num_tokens, prompt.num_document_tokens, own.num_tokens)
        slots = []
        for (owner, arrays, offset), length in zip(parts, lengths, strict=True):
            if length and id(owner) not in places:
                places[id(owner)] = slice(end, end + length)
                blocks.append(Block(arrays, offset, length))
                end += length
            slots += [places[id(owner)]] if length else []
        seen.append(slots)
    return Past(blocks, seen)


def _by_turns(keys: Arrays, values: Arrays) -> list[KVArray]:
    return [array for pair in zip(keys, values, strict=True) for array in pair]


def first_position(work: AnswerWork, attention: Attention) -> int:
    """The position of the next token of an answer."""
    before = work.answer.prompt.prefix.num_tokens if attention == "late" else 0
    return work.answer.num_slots - before


def pick_wanted(logits: NDArray[np.float32], answers: Sequence[AnswerWork]) -> list[NDArray[np.float32]]:
    """Of logits of the whole vocabulary [N, V] those that each answer wants."""
    return [row if work.wanted is None else row[work.wanted] for work, row in zip(answers, logits, strict=True)]


def build_answer_row(answers: Sequence[AnswerWork], past: Past, attention: Attention, masked_bias: float) -> Row:
    """The row of the new tokens of `answers`, at least one, behind `past`."""
    lengths = [len(work.ids) for work in answers]
    ends = np.cumsum(lengths)
    num_tokens, num_past = int(ends[-1]), past.num_slots
    bias = np.full((num_tokens, num_past + num_tokens), masked_bias, dtype=np.float32)
    position_ids = np.empty(num_tokens, dtype=np.int64)
    for work, slots, length, end in zip(answers, past.seen, lengths, ends.tolist(), strict=True):
        start = end - length
        for place in slots:
            bias[start:end, place] = 0.0
        bias[start:end, num_past + start : num_past + end][np.tri(length, dtype=bool)] = 0.0
        position_ids[start:end] = first_position(work, attention) + np.arange(length)
    input_ids = np.fromiter(chain.from_iterable([work.ids for work in answers]), dtype=np.int64, count=num_tokens)
    is_late = attention == "late"
    return Row(
        input_ids[None],
        position_ids[None],
        bias[None, None],
        (ends - 1).astype(np.int64),
        lower_bias=bias[None, None] if is_late else None,
        compared_tokens=np.zeros((len(answers), num_tokens), dtype=np.float32) if is_late else None,
    )
