"""The Prometheus series of shadow mode: how a candidate's scores differ from those that were answered.

They live in the registry of `service.metrics`, and all exist from the start, whether there is a candidate or not.
"""

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from relevance.scoring import FloatArray, IntArray

OUTCOMES = ("scored", "skipped", "dropped", "failed")
DIRECTIONS = ("higher", "equal", "lower")
DIFFERENCE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Below this, scores are the same but for rounding.
EQUAL = 1e-6


class ShadowMetrics:
    """Collectors of one app."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "relevance_shadow_requests_total",
            "Requests drawn for the candidate, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self._requests = {outcome: requests.labels(outcome) for outcome in OUTCOMES}
        pairs = Counter(
            "relevance_shadow_pairs_total",
            "Pairs compared, by the candidate's score beside the one answered.",
            ["score"],
            registry=registry,
        )
        self._pairs = {direction: pairs.labels(direction) for direction in DIRECTIONS}
        flips = Counter(
            "relevance_shadow_grade_flips_total",
            "Pairs that the candidate grades otherwise, by direction.",
            ["grade"],
            registry=registry,
        )
        self._flips = {direction: flips.labels(direction) for direction in ("higher", "lower")}
        self._difference = Histogram(
            "relevance_shadow_score_difference",
            "Absolute difference of the candidate's score from the one answered.",
            buckets=DIFFERENCE_BUCKETS,
            registry=registry,
        )
        self._ready = Gauge("relevance_shadow_ready", "1 while a candidate takes requests.", registry=registry)

    def count(self, outcome: str) -> None:
        """A request drawn for the candidate ended in one of OUTCOMES."""
        self._requests[outcome].inc()

    def observe(self, shift: FloatArray, grade_shift: IntArray) -> None:
        """The candidate's scores and grades less those answered, [N] each."""
        for difference in np.abs(shift):
            self._difference.observe(float(difference))
        self._pairs["higher"].inc(int(np.count_nonzero(shift > EQUAL)))
        self._pairs["lower"].inc(int(np.count_nonzero(shift < -EQUAL)))
        self._pairs["equal"].inc(int(np.count_nonzero(np.abs(shift) <= EQUAL)))
        self._flips["higher"].inc(int(np.count_nonzero(grade_shift > 0)))
        self._flips["lower"].inc(int(np.count_nonzero(grade_shift < 0)))

    def tell(self, is_ready: bool) -> None:
        """Whether there is a candidate that takes requests."""
        self._ready.set(is_ready)
