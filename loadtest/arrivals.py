"""When requests are due. Drawn before anything is sent, so that a slow service cannot slow its callers down."""

import random
from typing import Literal


def due_times(rate: float, seconds: float, arrivals: Literal["poisson", "constant"], seed: int) -> list[float]:
    """Seconds from the start at which requests are due, ascending, all below `seconds`.

    `poisson`: independent callers, gaps exponential with mean 1 / `rate`. `constant`: every 1 / `rate` seconds, which
    is kinder to a queue than any traffic is.
    """
    if arrivals == "constant":
        return [number / rate for number in range(round(rate * seconds)) if number / rate < seconds]
    rng = random.Random(seed)
    due, at = list[float](), rng.expovariate(rate)
    while at < seconds:
        due.append(at)
        at += rng.expovariate(rate)
    return due
