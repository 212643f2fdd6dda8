"""Answers in one row: who sees what, and where they stand."""

import numpy as np

from engine.answer_row import build_answer_row, plan_past
from engine.base import AnswerKV, AnswerWork, PrefixKV, PromptKV


def numbered(first: int, length: int) -> np.ndarray:
    """KV [1, 1, length, 1] that says which slot it is."""
    return np.arange(first, first + length, dtype=np.float32)[None, None, :, None]


def prefix(first: int, length: int) -> PrefixKV:
    with_null = np.concatenate([numbered(0, 1), numbered(first, length)], axis=2)
    return PrefixKV(length, (with_null,), (with_null,))


def prompt(of: PrefixKV, first: int, length: int) -> PromptKV:
    return PromptKV(of, length, [numbered(first, length)], [numbered(first, length)])


def answer(of: PromptKV, first: int, length: int) -> AnswerKV:
    made = AnswerKV(of)
    if length:
        made.append([numbered(first, length), numbered(first, length)], 0, length)
    return made


def seen_by(row: np.ndarray, num_past: int, past: np.ndarray) -> list[list[float]]:
    return [past[bias[:num_past] == 0.0].tolist() for bias in row[0, 0]]


def test_each_token_sees_its_prompt_its_answer_and_what_is_new_of_it() -> None:
    a, b = prefix(100, 2), prefix(200, 3)
    one, two, three = prompt(a, 10, 2), prompt(a, 20, 1), prompt(b, 30, 2)
    works = [
        AnswerWork(answer(one, 1000, 2), (5, 6)),
        AnswerWork(answer(two, 2000, 0), (7,)),
        AnswerWork(answer(three, 3000, 1), (8,)),
    ]
    past = plan_past(works)
    row = build_answer_row(works, past, "causal", -9.0)
    slots = np.concatenate([[0], *(x.arrays[0][0, 0, x.offset : x.offset + x.length, 0] for x in past.blocks)])
    assert past.num_slots == len(slots) == 1 + 2 + 2 + 2 + 1 + 3 + 2 + 1  # prefix a is there once
    assert seen_by(row.attention_bias, past.num_slots, slots) == [
        [100, 101, 10, 11, 1000, 1001],
        [100, 101, 10, 11, 1000, 1001],
        [100, 101, 20],
        [200, 201, 202, 30, 31, 3000],
    ]
    own = row.attention_bias[0, 0, :, past.num_slots :] == 0.0
    assert own.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False] * 3 + [True],
    ]
    assert row.input_ids.tolist() == [[5, 6, 7, 8]]
    assert row.position_ids.tolist() == [[6, 7, 3, 6]]
    assert row.last_positions.tolist() == [1, 2, 3]
    assert row.lower_bias is None


def test_under_late_attention_positions_begin_at_the_document_and_nothing_is_compared() -> None:
    works = [AnswerWork(answer(prompt(prefix(100, 3), 10, 2), 1000, 1), (5, 6))]
    row = build_answer_row(works, plan_past(works), "late", -9.0)
    assert row.position_ids.tolist() == [[3, 4]]
    assert row.lower_bias is not None
    np.testing.assert_array_equal(row.lower_bias, row.attention_bias)
    assert row.compared_tokens is not None
    assert not row.compared_tokens.any()


def test_two_answers_to_one_prompt_share_it() -> None:
    shared = prompt(prefix(100, 3), 10, 4)
    works = [AnswerWork(AnswerKV(shared), (1,)), AnswerWork(AnswerKV(shared), (2,))]
    past = plan_past(works)
    assert past.num_slots == 1 + 3 + 4
    assert past.seen[0] == past.seen[1]


def test_an_answer_keeps_what_it_said_as_it_grows() -> None:
    one = answer(prompt(prefix(1, 1), 2, 1), 0, 1)
    for number in range(1, 200):
        one.append([numbered(number, 1)] * 2, 0, 1)
    assert one.num_tokens == 200
    np.testing.assert_array_equal(one.arrays[1][0, 0, :200, 0], np.arange(200))
    assert one.num_bytes >= 2 * 200 * 4
