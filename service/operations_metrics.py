"""The Prometheus series about the process and how it is run, beside those about scoring in `service.metrics`.

They live in the same registry, and all exist from the start.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.garbage import GcPauses

ANONYMOUS = "anonymous"
"""The name of whoever needs no key."""
SWAP_OUTCOMES = ("ok", "unchanged", "refused")
# 50 us to 6.5 s by factors of two: an idle loop is a few hundred microseconds late.
LAG_BUCKETS_S = tuple(round(5e-5 * 2**step, 7) for step in range(18))


class OperationsMetrics:
    """Collectors of one app."""

    def __init__(self, registry: CollectorRegistry, key_names: Sequence[str]) -> None:
        self._registry = registry
        self.gc_pauses = GcPauses(registry)
        self._loop_lag = Histogram(
            "relevance_loop_lag_seconds",
            "How late the event loop runs what it is given.",
            buckets=LAG_BUCKETS_S,
            registry=registry,
        )
        self._loop_stalls = Counter(
            "relevance_loop_stalls_total", "Times the event loop was blocked for over a second.", registry=registry
        )
        swaps = Counter("relevance_swaps_total", "Changes of the artifact, by outcome.", ["outcome"], registry=registry)
        self._swaps = {outcome: swaps.labels(outcome) for outcome in SWAP_OUTCOMES}
        self._key_requests = Counter(
            "relevance_key_requests_total", "Requests let in, by the name of their key.", ["key"], registry=registry
        )
        for name in (ANONYMOUS, *key_names):
            self._key_requests.labels(name)
        self._artifact = Gauge(
            "relevance_artifact_info", "What is being served.", ["name", "hash", "precision"], registry=registry
        )
        self.watch("threads", "Threads of the process that Python knows.", threading.active_count)
        self.watch("tasks", "Tasks of the event loop: a few for each request under way.", _num_tasks)

    def watch(self, noun: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge `relevance_{noun}` that is read when it is scraped."""
        Gauge(f"relevance_{noun}", documentation, registry=self._registry).set_function(read)

    def observe_lag(self, seconds: float) -> None:
        """The event loop was this late."""
        self._loop_lag.observe(seconds)

    def count_stall(self) -> None:
        """The event loop was blocked."""
        self._loop_stalls.inc()

    def count_swap(self, outcome: str) -> None:
        """A change of the artifact ended in one of SWAP_OUTCOMES."""
        self._swaps[outcome].inc()

    def count_key(self, name: str) -> None:
        """A request with this key was let in."""
        self._key_requests.labels(name).inc()

    def tell_artifact(self, name: str, digest: str, precision: str) -> None:
        """What is served from now on."""
        self._artifact.clear()
        self._artifact.labels(name, digest, precision).set(1)


def _num_tasks() -> float:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # scraped from outside a loop
        return 0
