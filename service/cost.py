"""What an engine call will take, learned from those that were made.

    seconds = a * tokens + b                       of one call; of a queue: a * tokens + b * packs

Tokens are those computed: of documents, and of prefixes that are not held. The past a pack looks at is left out: on
the default, 60 tokens of it add a tenth to a pack (docs/log.md), less than calls of one size differ by.

Recursive least squares in information form: the sums x x' and x y, which fade by FORGETTING with every call, follow a
machine that changes. Beside them stands, never fading and worth little, the line it started from, at the speed the
machine has now: calls of one size only must not let it believe anything about other sizes. a and b stay positive
by a fit under that condition, not by a cut.

Robust: a call that takes longer than predicted counts for at most CLIP times the usual error, and the usual error
grows while errors stay large. So a stall is not believed, and a machine that has become slower is, within tens of
calls. A call that is faster than predicted is always believed: nothing makes a model faster than it is.

It starts from warm-up, where the best of the runs of each size is taken. Pure: no clock, no thread. The sums of two
unknowns are plain floats: numpy's solver for them took longer than building a pack's row.
"""

import math
from collections.abc import Sequence

import numpy as np

# A call's weight halves every 23 calls.
FORGETTING = 0.97
CLIP = 3.0
# How fast the usual error follows, and how much one error may count there.
ERROR_GAIN, MAX_ERROR_GROWTH = 0.05, 6.0
# What the start is worth, in calls of each of these sizes.
ANCHOR_CALLS, ANCHOR_TOKENS = 0.5, (16, 128)
# Tokens in one unit of the fit, so that both unknowns are of one order.
UNIT_TOKENS = 100.0
MIN_SECONDS = 1e-9

Measurement = tuple[int, float]
"""Tokens of one call, and the seconds it took."""

Information = tuple[float, float, float]
"""The sums of x x, x and 1 over calls, x being tokens in units."""
Sums = tuple[float, float]
"""The sums of x y and y, y being seconds."""


class CostModel:
    """Seconds of an engine call as a line over its tokens."""

    def __init__(self, seconds_per_token: float = 1e-4, seconds_per_call: float = 1e-3) -> None:
        """Start from a guess; `start` replaces it by measurements."""
        self._begin(seconds_per_token, seconds_per_call)

    def _begin(self, seconds_per_token: float, seconds_per_call: float) -> None:
        self._fit = (seconds_per_token * UNIT_TOKENS, seconds_per_call)
        sizes = [tokens / UNIT_TOKENS for tokens in ANCHOR_TOKENS]
        squares, total = sum(size * size for size in sizes), sum(sizes)
        self._anchor: Information = (ANCHOR_CALLS * squares, ANCHOR_CALLS * total, ANCHOR_CALLS * len(sizes))
        self._start = self._fit
        self._information: Information = (0.0, 0.0, 0.0)
        self._seconds: Sums = (0.0, 0.0)
        self._usual_error = 0.2 * sum(self._fit)

    @property
    def seconds_per_token(self) -> float:
        """`a`, more than 0."""
        return self._fit[0] / UNIT_TOKENS

    @property
    def seconds_per_call(self) -> float:
        """`b`, at least 0."""
        return self._fit[1]

    @property
    def usual_error_s(self) -> float:
        """How far a call is from its prediction, on average and regardless of sign, in seconds."""
        return self._usual_error

    def start(self, measurements: Sequence[Measurement]) -> None:
        """Begin anew from the measurements of a warm-up, at least two sizes; fewer are ignored."""
        best: dict[int, float] = {}
        for num_tokens, seconds in measurements:
            best[num_tokens] = min(seconds, best.get(num_tokens, math.inf))
        if len(best) < 2:
            return
        tokens, seconds_of = np.array(list(best)), np.array(list(best.values()))
        slope, offset = np.polyfit(tokens, seconds_of, 1)
        slope = max(float(slope), float(np.min(seconds_of / tokens)) / 10)
        self._begin(slope, max(float(offset), 0.0))
        errors = seconds_of - (slope * tokens + self.seconds_per_call)
        self._usual_error = max(float(np.mean(np.abs(errors))), 1e-5)

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from one call; a time that is no positive number is ignored."""
        if not (num_tokens > 0 and 0.0 < seconds < math.inf):
            return
        x = num_tokens / UNIT_TOKENS
        predicted = self.seconds(num_tokens)
        believed = min(seconds, predicted + CLIP * self._usual_error)
        (xx, x1, ones), (xy, y) = self._information, self._seconds
        xx, x1, ones = FORGETTING * xx + x * x, FORGETTING * x1 + x, FORGETTING * ones + 1.0
        xy, y = FORGETTING * xy + x * believed, FORGETTING * y + believed
        self._information, self._seconds = (xx, x1, ones), (xy, y)
        (anchor_xx, anchor_x, anchor_ones), (slope, offset) = self._anchor, self._start
        slowness = y / (x1 * slope + ones * offset)
        anchor_xy = (anchor_xx * slope + anchor_x * offset) * slowness
        anchor_y = (anchor_x * slope + anchor_ones * offset) * slowness
        information = (xx + anchor_xx, x1 + anchor_x, ones + anchor_ones)
        self._fit = _positive_fit(information, (xy + anchor_xy, y + anchor_y))
        counted = min(abs(seconds - predicted), MAX_ERROR_GROWTH * self._usual_error)
        self._usual_error = max(self._usual_error + ERROR_GAIN * (counted - self._usual_error), 1e-6)

    def seconds(self, num_tokens: float, num_calls: float = 1) -> float:
        """Predicted seconds of `num_tokens` in `num_calls` calls."""
        return self.seconds_per_token * num_tokens + self.seconds_per_call * num_calls

    def tokens_within(self, seconds: float) -> float:
        """Tokens that one call does in `seconds`; may be negative."""
        return (seconds - self.seconds_per_call) / self.seconds_per_token

    def tokens_for_efficiency(self, share: float) -> float:
        """Size of the call that spends `share` of its time on tokens: beyond it, size gains less than the rest."""
        return share / (1 - share) * self.seconds_per_call / self.seconds_per_token


def _positive_fit(information: Information, seconds: Sums) -> tuple[float, float]:
    """The (a, b) with a > 0 and b >= 0 that fit best."""
    (xx, x, ones), (xy, y) = information, seconds
    determinant = xx * ones - x * x  # positive: the anchor has two sizes
    per_token, per_call = (ones * xy - x * y) / determinant, (xx * y - x * xy) / determinant
    if per_call < 0.0:
        per_token, per_call = xy / xx, 0.0
    if per_token < MIN_SECONDS:
        per_token, per_call = MIN_SECONDS, max(y / ones, 0.0)
    return per_token, per_call
