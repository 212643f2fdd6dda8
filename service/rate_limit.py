"""How much a caller may ask for: a token bucket that may be overdrawn once.

    level <- min(burst, level + rate * seconds)     as time passes
    needed = min(amount, burst)
    level >= needed: granted, level <- level - amount, which may lie below zero
    else refused: try again in (needed - level) / rate seconds

So a request larger than the burst is let through when the bucket is full, and its caller waits for it afterwards:
over time nobody gets more than the rate.
"""

import math
from collections.abc import Callable

BURST_S = 2.0
"""A caller that was idle may ask for this many seconds' worth at once."""


# Who waited as long as it was told is let in, whatever the sums of floats say.
ROUNDING = 1e-6


class Allowance:
    """What one caller has left of one thing. Pure but for the clock."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = max(1.0, per_second * BURST_S)
        self._clock = clock
        self._level = self._burst
        self._at = clock()

    def take(self, amount: float) -> int:
        """Take `amount`: 0 if granted, else the whole seconds after which asking again helps."""
        now = self._clock()
        # A clock that is set back must not take anything away.
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._per_second)
        self._at = now
        needed = min(amount, self._burst)
        if self._level >= needed - ROUNDING:
            self._level -= amount
            return 0
        return max(1, math.ceil((needed - self._level) / self._per_second))
