"""How cost grows, as numbers: which sizes are tried, the line fitted to their times, the knee of a load.

    seconds = a * tokens + b * calls        tokens: the prefix once and every document
                                            calls: the prefix's, and one a pack

the same line that the service's cost model learns (`service.cost`). It is fitted where it is meant to hold, to runs of
no more than a pack's tokens: a longer document is a run of its own, whose attention grows with the square. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.packing import plan_packs

KNEE_SHARE = 0.95
"""Of the most that any number of clients got: with the fewest that get so much, the service is busy."""


@dataclass(frozen=True, slots=True)
class Size:
    """One query's work: equal documents behind one prefix."""

    num_documents: int
    document_tokens: int
    prefix_tokens: int

    @property
    def num_tokens(self) -> int:
        """Computed in all."""
        return self.prefix_tokens + self.num_documents * self.document_tokens

    def num_calls(self, pack_tokens: int) -> int:
        """Runs of the graph."""
        return 1 + len(plan_packs([self.document_tokens] * self.num_documents, pack_tokens))


AXES: Mapping[str, tuple[Size, ...]] = {
    "documents": tuple(Size(number, 32, 16) for number in (1, 2, 4, 8, 16, 32, 64, 100)),
    "document_tokens": tuple(Size(8, tokens, 16) for tokens in (8, 16, 32, 64, 128, 256, 384)),
    "prefix_tokens": tuple(Size(8, 32, tokens) for tokens in (4, 8, 16, 32, 64, 128, 192)),
}
"""What grows, the rest held: the name of the field that does, but for `documents`."""


def value_of(axis: str, size: Size) -> int:
    """Where a size lies on its axis."""
    return {
        "documents": size.num_documents,
        "document_tokens": size.document_tokens,
        "prefix_tokens": size.prefix_tokens,
    }[axis]


def is_on_line(size: Size, pack_tokens: int) -> bool:
    """No run of it is longer than a pack."""
    return max(size.document_tokens, size.prefix_tokens) <= pack_tokens


def fit_line(sizes: Sequence[Size], seconds: Sequence[float], pack_tokens: int) -> tuple[float, float]:
    """(a, b) in seconds a token and a call, neither negative; relative errors count, so small sizes as much as large.

    Sizes that are not on the line are left out.
    """
    kept = [(size, took) for size, took in zip(sizes, seconds, strict=True) if is_on_line(size, pack_tokens)]
    rows = np.array([(size.num_tokens, size.num_calls(pack_tokens)) for size, _ in kept]) / [[took] for _, took in kept]
    both = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
    if both[1] >= 0.0:
        return float(both[0]), float(both[1])
    tokens = rows[:, 0]
    return float(tokens.sum() / (tokens @ tokens)), 0.0


def predict(line: tuple[float, float], size: Size, pack_tokens: int) -> float:
    """Seconds by the line."""
    return line[0] * size.num_tokens + line[1] * size.num_calls(pack_tokens)


def knee_of(rates: Mapping[int, float]) -> int:
    """The fewest clients that get `KNEE_SHARE` of the most that any number of them gets."""
    enough = KNEE_SHARE * max(rates.values())
    return min(clients for clients, rate in rates.items() if rate >= enough)
