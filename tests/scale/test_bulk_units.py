"""Units: every row in exactly one, cut where a query ends."""

from hypothesis import given
from hypothesis import strategies as st

from scale.bulk_units import MAX_STRETCH, blocks_of, cut_units

QUERIES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), max_size=12)


@given(QUERIES, st.integers(1, 8))
def test_every_row_is_in_exactly_one_unit_and_a_query_is_cut_only_where_it_is_too_long(
    runs: list[tuple[str, int]], unit_rows: int
) -> None:
    queries = [query for query, length in runs for _ in range(length)]
    units = list(cut_units(iter(queries), unit_rows))
    assert [row for start, stop in units for row in range(start, stop)] == list(range(len(queries)))
    for number, (start, stop) in enumerate(units):
        assert 0 < stop - start <= MAX_STRETCH * unit_rows
        if number < len(units) - 1:
            assert stop - start >= unit_rows
            is_border = queries[stop] != queries[stop - 1]
            assert is_border or stop - start == MAX_STRETCH * unit_rows


def test_a_unit_ends_at_the_first_border_at_or_after_its_size() -> None:
    assert list(cut_units("aaabbbbccc", 4)) == [(0, 7), (7, 10)]
    assert list(cut_units("aabb", 2)) == [(0, 2), (2, 4)]
    assert list(cut_units("aaaaaaa", 2)) == [(0, 4), (4, 7)]
    assert list(cut_units([None, "a", "a"], 1)) == [(0, 1), (1, 3)]
    assert list(cut_units([], 4)) == []


def test_units_are_handed_out_one_a_block_until_there_are_too_many() -> None:
    assert [blocks_of(number, 5) for number in (0, 1, 5, 9)] == [1, 1, 5, 5]
