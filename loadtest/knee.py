"""Where the service bends: which rate a ramp tries next, and which one is the knee.

Rates rise by a factor until one does not hold; then the gap between the highest that held and the lowest that did not
is halved (geometrically) `refine` times. If the very first does not hold, rates fall by the factor until one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """A rate that was tried."""

    rate: float
    held: bool


def knee_of(levels: Sequence[Level]) -> float | None:
    """The highest rate that held below the lowest that did not; None if none did."""
    lowest_broken = min((level.rate for level in levels if not level.held), default=float("inf"))
    return max((level.rate for level in levels if level.held and level.rate < lowest_broken), default=None)


def next_rate(levels: Sequence[Level], start: float, factor: float, refine: int, max_levels: int) -> float | None:
    """The rate to try next, None when the ramp is over."""
    if not levels:
        return start
    if len(levels) >= max_levels:
        return None
    broken = [level.rate for level in levels if not level.held]
    held = knee_of(levels)
    if not broken:
        return levels[-1].rate * factor
    if held is None:
        return min(broken) / factor
    first_pair = next(n for n in range(1, len(levels) + 1) if _is_bracketed(levels[:n]))
    if len(levels) - first_pair >= refine:
        return None
    return float((held * min(broken)) ** 0.5)


def _is_bracketed(levels: Sequence[Level]) -> bool:
    return any(not level.held for level in levels) and knee_of(levels) is not None
