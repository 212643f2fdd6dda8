"""What an engine call will take, learned from those that were made.

    seconds = a * tokens + b                       of one call; of a queue: a * tokens + b * packs

Tokens are those computed: of documents, and of prefixes that are not held. The past a pack looks at is left out: on
the default, 60 tokens of it add a tenth to a pack (docs/log.md), less than calls of one size differ by.

Recursive least squares with forgetting follows a machine that changes. Against what is no measurement of the
model (a stall, a first run) it is robust: an error counts for at most CLIP times the usual one, and the usual one grows
while errors stay large, so that a lasting change is followed within tens of calls and a single stall is not. It starts
from warm-up, where the best of the runs of each size is taken. Pure: no clock, no thread.
"""

import math
from collections.abc import Sequence

import numpy as np

# A call's weight halves every 23 calls.
FORGETTING = 0.97
CLIP = 3.0
# How fast the usual error follows, and how much a clipped error may count there.
ERROR_GAIN, MAX_ERROR_GROWTH = 0.05, 6.0
# With calls of one size only, forgetting would make the fit believe anything about other sizes.
MAX_UNCERTAINTY = 1e3
# Tokens in one unit of the fit, so that both unknowns are of one order.
UNIT_TOKENS = 100.0

Measurement = tuple[int, float]
"""Tokens of one call, and the seconds it took."""


class CostModel:
    """Seconds of an engine call as a line over its tokens."""

    def __init__(self, seconds_per_token: float = 1e-4, seconds_per_call: float = 1e-3) -> None:
        """Start from a guess; `start` replaces it by measurements."""
        self._set(seconds_per_token, seconds_per_call)

    def _set(self, seconds_per_token: float, seconds_per_call: float) -> None:
        self._fit = np.array([seconds_per_token * UNIT_TOKENS, seconds_per_call])
        self._uncertainty = np.eye(2)
        self._usual_error = 0.2 * float(self._fit.sum())

    @property
    def seconds_per_token(self) -> float:
        """`a`, more than 0."""
        return float(self._fit[0]) / UNIT_TOKENS

    @property
    def seconds_per_call(self) -> float:
        """`b`, at least 0."""
        return float(self._fit[1])

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
        self._set(slope, max(float(offset), 0.0))
        errors = seconds_of - (slope * tokens + self.seconds_per_call)
        self._usual_error = max(float(np.mean(np.abs(errors))), 1e-5)

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from one call; a time that is no positive number is ignored."""
        if not (num_tokens > 0 and 0.0 < seconds < math.inf):
            return
        x = np.array([num_tokens / UNIT_TOKENS, 1.0])
        error = seconds - float(x @ self._fit)
        limit = CLIP * self._usual_error
        spread = self._uncertainty @ x
        gain = spread / (FORGETTING + float(x @ spread))
        fit = self._fit + gain * min(max(error, -limit), limit)
        self._fit = np.array([max(float(fit[0]), 1e-9), max(float(fit[1]), 0.0)])
        uncertainty = (self._uncertainty - np.outer(gain, spread)) / FORGETTING
        if float(np.trace(uncertainty)) < MAX_UNCERTAINTY:
            self._uncertainty = uncertainty
        counted = min(abs(error), MAX_ERROR_GROWTH * self._usual_error)
        self._usual_error += ERROR_GAIN * (counted - self._usual_error)
        self._usual_error = max(self._usual_error, 1e-6)

    def seconds(self, num_tokens: float, num_calls: float = 1) -> float:
        """Predicted seconds of `num_tokens` in `num_calls` calls."""
        return self.seconds_per_token * num_tokens + self.seconds_per_call * num_calls

    def tokens_within(self, seconds: float) -> float:
        """Tokens that one call does in `seconds`; may be negative."""
        return (seconds - self.seconds_per_call) / self.seconds_per_token

    def tokens_for_efficiency(self, share: float) -> float:
        """Size of the call that spends `share` of its time on tokens: beyond it, size gains less than the rest."""
        return share / (1 - share) * self.seconds_per_call / self.seconds_per_token
