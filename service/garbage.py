"""Garbage collection of a server: what lives when it is ready is never walked again, and what remains is measured.

A full collection walks every container object of the process and stops all of it meanwhile. After `freeze` it only
walks what requests made since.
"""

import gc
import time
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

NUM_GENERATIONS = 3
# 10 us to 1.3 s by factors of two.
PAUSE_BUCKETS_S = tuple(round(1e-5 * 2**step, 7) for step in range(18))


def freeze() -> None:
    """Collect, then exempt all that lives from further collections."""
    gc.collect()
    gc.freeze()


class GcPauses(Collector):
    """Histogram of pauses per generation.

    Plain lists, no collector object of the metrics library: a collection may start inside one, under its lock.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts = [[0] * (len(PAUSE_BUCKETS_S) + 1) for _ in range(NUM_GENERATIONS)]
        self._seconds = [0.0] * NUM_GENERATIONS
        self._started_at = 0.0
        registry.register(self)

    def start(self) -> None:
        """Measure from now on."""
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Measure no longer."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def _on_collection(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._started_at = time.perf_counter()
            return
        self.record(info["generation"], time.perf_counter() - self._started_at)

    def record(self, generation: int, pause_s: float) -> None:
        """One collection of `generation` took `pause_s`."""
        bucket = sum(pause_s > bound for bound in PAUSE_BUCKETS_S)
        self._counts[generation][bucket] += 1
        self._seconds[generation] += pause_s

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the registry asks for at each scrape."""
        family = HistogramMetricFamily(
            "relevance_gc_pause_seconds", "Pauses for garbage collection, by generation.", labels=["generation"]
        )
        for generation in range(NUM_GENERATIONS):
            family.add_metric(
                [str(generation)], _cumulative(self._counts[generation]), sum_value=self._seconds[generation]
            )
        yield family


def _cumulative(counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*map(str, PAUSE_BUCKETS_S), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
