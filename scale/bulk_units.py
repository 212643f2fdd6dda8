"""Units of work of a bulk job: consecutive rows that are scored, written and, after a stop, repeated together. Pure.

    rows   0 1 2 3 4 5 6 7 8 9          unit_rows = 4
    query  a a a b b b b c c c
    units  [0 . . . . . 7) [7 . . 10)   cut at the first border of queries at or after 4 rows

so a query's documents share its prefix. A query of very many rows is cut at twice `unit_rows`: memory stays bounded.
Of an input that is not sorted by query every row is a border, and the rows of one query are scored together within a
unit only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_STRETCH = 2
"""A unit has at most so many times `unit_rows` rows."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows `start` to `stop` (not included) of one file of the input."""

    number: int
    """Of all units of the job, from 0."""
    file: int
    start: int
    """Row of the file, from 0."""
    stop: int
    first_row: int
    """Of all files together: the id of its first row."""

    @property
    def num_rows(self) -> int:
        """At least 1."""
        return self.stop - self.start


def cut_units(queries: Iterable[str | None], unit_rows: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each unit of one file whose rows have these queries, in order; every row is in exactly one."""
    start, row, last = 0, -1, None
    for row, query in enumerate(queries):
        length = row - start
        if length >= unit_rows and (query != last or length >= MAX_STRETCH * unit_rows):
            yield start, row
            start = row
        last = query
    if row >= start:
        yield start, row + 1


def blocks_of(num_units: int, max_blocks: int) -> int:
    """In how many blocks units are handed out: one each, as long as there are not too many to keep track of."""
    return max(1, min(num_units, max_blocks))
