import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.packing import NUM_NULL_SLOTS, Segment, build_row, plan_packs

MASKED = -10000.0


@pytest.mark.parametrize(
    ("lengths", "budget", "packs"),
    [
        ([], 10, []),
        ([3], 10, [[0]]),
        ([30], 10, [[0]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([5, 30, 5], 10, [[0], [1], [2]]),
        ([1, 2, 3, 4], 100, [[0, 1, 2, 3]]),
    ],
)
def test_packs_by_hand(lengths: list[int], budget: int, packs: list[list[int]]) -> None:
    assert plan_packs(lengths, budget) == packs


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 100))
def test_every_index_once_in_order_and_within_budget(lengths: list[int], budget: int) -> None:
    packs = plan_packs(lengths, budget)
    assert [i for pack in packs for i in pack] == list(range(len(lengths)))
    for pack in packs:
        assert len(pack) == 1 or sum(lengths[i] for i in pack) <= budget


def test_row_by_hand() -> None:
    # Past: null, prefix a (2 slots), prefix b (1 slot). Documents: two tokens behind a, one behind b.
    segments = [Segment([7, 8], 1, 2), Segment([9], 3, 1)]
    row = build_row(segments, 4, "causal", MASKED)
    assert row.input_ids.tolist() == [[7, 8, 9]]
    assert row.position_ids.tolist() == [[2, 3, 1]]
    assert row.last_positions.tolist() == [1, 2]
    seen = (row.attention_bias[0, 0] == 0.0).astype(int).tolist()
    assert seen == [
        [0, 1, 1, 0, 1, 0, 0],
        [0, 1, 1, 0, 1, 1, 0],
        [0, 0, 0, 1, 0, 0, 1],
    ]
    both_ways = build_row(segments, 4, "segment", MASKED).attention_bias[0, 0] == 0.0
    assert both_ways.astype(int).tolist() == [
        [0, 1, 1, 0, 1, 1, 0],
        [0, 1, 1, 0, 1, 1, 0],
        [0, 0, 0, 1, 0, 0, 1],
    ]


def test_late_row_by_hand() -> None:
    # Past: null, a prefix of 2. One document of 2 tokens and a suffix of 1.
    row = build_row([Segment([7, 8, 9], 1, 2, num_suffix=1)], 3, "late", MASKED)
    assert row.lower_bias is not None
    assert row.compared_tokens is not None
    assert row.position_ids.tolist() == [[0, 1, 2]]
    assert (row.attention_bias[0, 0] == 0.0).astype(int).tolist() == [[0, 1, 1, 1, 1, 1]] * 3
    assert (row.lower_bias[0, 0] == 0.0).astype(int).tolist() == [
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 1, 1, 1, 1, 1],
    ]
    assert row.compared_tokens.tolist() == [[1, 1, 0]]
    prefix = build_row([Segment([1, 2], 1, 0)], 1, "late", MASKED)
    assert prefix.lower_bias is not None
    assert prefix.compared_tokens is not None
    assert (prefix.lower_bias[0, 0] == 0.0).astype(int).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert not prefix.compared_tokens.any()


def test_late_documents_do_not_touch() -> None:
    row = build_row([Segment([7, 8, 9], 1, 2, 1), Segment([5, 6], 1, 2, 1)], 3, "late", MASKED)
    assert row.lower_bias is not None
    assert row.compared_tokens is not None
    assert not (row.lower_bias[0, 0, :3, 6:] == 0.0).any()
    assert not (row.lower_bias[0, 0, 3:, 3:6] == 0.0).any()
    assert row.compared_tokens.tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 1, 0]]


@given(
    prefixes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    documents=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=6),
    attention=st.sampled_from(["causal", "segment"]),
)
def test_nobody_sees_the_null_slot_another_prefix_or_another_document(
    prefixes: list[int], documents: list[tuple[int, int]], attention: str
) -> None:
    starts = np.cumsum([NUM_NULL_SLOTS, *prefixes])
    num_past = int(starts[-1])
    segments = [Segment([1] * n, int(starts[p % len(prefixes)]), prefixes[p % len(prefixes)]) for p, n in documents]
    row = build_row(segments, num_past, attention, MASKED)  # type: ignore[arg-type]
    seen = row.attention_bias[0, 0] == 0.0
    assert not seen[:, :NUM_NULL_SLOTS].any()
    end = 0
    for segment in segments:
        start, end = end, end + len(segment.ids)
        own_past = seen[start:end, segment.past_start : segment.past_start + segment.past_length]
        assert own_past.all()
        own = seen[start:end, num_past + start : num_past + end]
        assert own.sum() == (end - start) ** 2 if attention == "segment" else np.array_equal(own, np.tri(end - start))
        assert seen[start:end].sum() == own_past.sum() + own.sum()
        assert row.position_ids[0, start:end].tolist() == list(
            range(segment.past_length, segment.past_length + end - start)
        )
