"""From timeouts to deadlines: the shortest counts, and what writing the answer takes is kept back."""

import math

import pytest

from service.deadlines import MAX_SHARE, Deadlines
from service.errors import InvalidFieldsError


def test_without_any_there_is_none() -> None:
    deadlines = Deadlines(None, 1000)
    assert deadlines.timeout_s(deadlines.read_header(None), None) == math.inf
    assert deadlines.scored_by(5.0, math.inf, 3) == math.inf


@pytest.mark.parametrize(
    ("header", "body", "expected"),
    [(None, None, 0.5), ("200", None, 0.2), (None, 300, 0.3), ("200", 300, 0.2), ("400", 300, 0.3), (None, 900, 0.9)],
)
def test_the_shortest_counts_and_the_default_only_where_none_is_named(
    header: str | None, body: int | None, expected: float
) -> None:
    deadlines = Deadlines(500, 1000)
    assert deadlines.timeout_s(deadlines.read_header(header), body) == expected


@pytest.mark.parametrize("value", ["0", "1001", "x", "", " 5", "5.0", "-5", "+5", "1" * 400])
def test_what_is_out_of_bounds_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidFieldsError, match="X-Timeout-Ms"):
        Deadlines(None, 1000).read_header(value)


def test_the_time_to_write_is_learned_per_pair_and_kept_back() -> None:
    deadlines = Deadlines(None, 10_000)
    for number in range(300):
        deadlines.observe(1 + number % 100, 1e-3 + 1e-4 * (1 + number % 100))
    kept = {pairs: 100.0 + 2.0 - deadlines.scored_by(100.0, 2.0, pairs) for pairs in (1, 100)}
    # What it takes, and some milliseconds at most for how much answers differ.
    assert 1.1e-3 <= kept[1] < 4e-3
    assert 11e-3 <= kept[100] < 14e-3


def test_slow_writing_never_takes_the_whole_timeout() -> None:
    deadlines = Deadlines(None, 10_000)
    for _ in range(500):
        deadlines.observe(10, 30.0)
    assert deadlines.scored_by(100.0, 2.0, 10) == 100.0 + 2.0 * (1 - MAX_SHARE)
