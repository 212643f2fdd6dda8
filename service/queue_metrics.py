"""The series of what waits: who was let in, who was not answered, and what did not have to be computed."""

from prometheus_client import CollectorRegistry, Counter

SCORE_SOURCES = ("local", "redis", "shared", "computed")
STEPS = ("waiting", "running")


class QueueMetrics:
    """The collectors of the engine's queue and of the score caches before it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        scores = self._counter("score_lookups", "Distinct pairs of requests, by where their score came from.", "source")
        self._scores = {source: scores.labels(source) for source in SCORE_SOURCES}
        self.admitted = self._counter("admitted_requests", "Requests given to the engine's queue.")
        expired = self._counter("expired_requests", "Admitted requests whose deadline passed.", "step")
        self._expired = {step: expired.labels(step) for step in STEPS}
        cancelled = self._counter("cancelled_requests", "Admitted requests whose client went away.", "step")
        self._cancelled = {step: cancelled.labels(step) for step in STEPS}
        self.redis_failures = self._counter("redis_failures", "Calls of Redis that failed or took too long.")
        self.redis_dropped_writes = self._counter("redis_dropped_writes", "Scores not written to Redis.")

    def _counter(self, noun: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"relevance_{noun}_total", documentation, labels, registry=self._registry)

    def count_scores(self, source: str, number: int) -> None:
        """`number` distinct pairs got their score from `source`, one of SCORE_SOURCES."""
        self._scores[source].inc(number)

    def count_expired(self, has_started: bool) -> None:
        """One admitted request could not be answered in time."""
        self._expired[STEPS[has_started]].inc()

    def count_cancelled(self, has_started: bool) -> None:
        """One admitted request was given up by its client."""
        self._cancelled[STEPS[has_started]].inc()
