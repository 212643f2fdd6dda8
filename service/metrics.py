"""Every Prometheus series of the service; nothing else defines one.

Each app has a registry of its own, so that several can live in one process. All series exist at 0 from the
start: an alert on a rate must not depend on the first event having happened. docs/api.md lists them.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from service.queue_metrics import QueueMetrics

STAGES = ("tokenise", "queue", "infer", "post", "total")
PREFIX_SOURCES = ("hit", "shared", "miss")
# Geometric by the square root of two, 100 us to 13 s: the answer takes 2 ms here and 2 s there.
STAGE_BUCKETS_S = tuple(round(1e-4 * 2 ** (step / 2), 7) for step in range(35))
TOKEN_BUCKETS = tuple(float(2**power) for power in range(4, 14))
DOCUMENT_BUCKETS = tuple(float(2**power) for power in range(11))
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The collectors of one app."""

    def __init__(
        self,
        grade_names: Sequence[str],
        outcomes: Sequence[str],
        dialects: Sequence[str] = ("native",),
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = self._counter("requests", "Requests answered or given up, by outcome.", "outcome")
        self._requests = {outcome: requests.labels(outcome) for outcome in outcomes}
        dialect_requests = self._counter("dialect_requests", "Scored requests, by dialect.", "dialect")
        self._dialects = {dialect: dialect_requests.labels(dialect) for dialect in dialects}
        stages = Histogram(
            "relevance_stage_seconds",
            "Time of one scored request by stage.",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._pairs = Counter("relevance_pairs_total", "Pairs asked for in scored requests.", registry=self.registry)
        self._distinct_pairs = Counter(
            "relevance_distinct_pairs_total", "Pairs computed: equal ones in a request once.", registry=self.registry
        )
        self._truncated_pairs = Counter(
            "relevance_truncated_pairs_total", "Pairs whose document was cut.", registry=self.registry
        )
        grades = self._counter("grades", "Grades given, by name: watch it for drift.", "grade")
        self._grades = [grades.labels(name) for name in grade_names]
        prefixes = self._counter(
            "prefix_lookups", "Distinct prefixes of requests, by where their KV came from.", "source"
        )
        self._prefixes = {source: prefixes.labels(source) for source in PREFIX_SOURCES}
        self.queue = QueueMetrics(self.registry)
        self.pack_documents = self._histogram("pack_documents", "Documents in one pack.", DOCUMENT_BUCKETS)
        self.pack_tokens = self._histogram("pack_tokens", "Tokens of documents in one pack.", TOKEN_BUCKETS)
        self.prefix_batch_tokens = self._histogram(
            "prefix_batch_tokens", "Tokens in one prefill of prefixes.", TOKEN_BUCKETS
        )
        self.padding_tokens = Counter(
            "relevance_padding_tokens_total",
            "Tokens computed that nobody asked for: must stay 0.",
            registry=self.registry,
        )
        self.failed_batches = Counter(
            "relevance_failed_batches_total", "Engine calls that raised.", registry=self.registry
        )

    def _counter(self, noun: str, documentation: str, label: str) -> Counter:
        return Counter(f"relevance_{noun}_total", documentation, [label], registry=self.registry)

    def _histogram(self, noun: str, documentation: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"relevance_{noun}", documentation, buckets=buckets, registry=self.registry)

    def watch(self, noun: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge `relevance_{noun}` that is read when it is scraped."""
        Gauge(f"relevance_{noun}", documentation, registry=self.registry).set_function(read)

    def count_request(self, outcome: str) -> None:
        """One request ended: `ok`, `cancelled` or an error's code."""
        self._requests[outcome].inc()

    def count_dialect(self, dialect: str) -> None:
        """One request was scored in `dialect`."""
        self._dialects[dialect].inc()

    def count_pairs(self, num_pairs: int, num_distinct_pairs: int, num_truncated: int) -> None:
        """The pairs of one scored request."""
        self._pairs.inc(num_pairs)
        self._distinct_pairs.inc(num_distinct_pairs)
        self._truncated_pairs.inc(num_truncated)

    def count_prefixes(self, source: str, number: int) -> None:
        """`number` prefixes came from `source`, one of PREFIX_SOURCES."""
        self._prefixes[source].inc(number)

    def count_grades(self, grades: NDArray[np.int64]) -> None:
        """Grades given to the pairs of one request, [N]; negative ones are none."""
        for series, number in zip(
            self._grades, np.bincount(grades[grades >= 0], minlength=len(self._grades)), strict=True
        ):
            if number:
                series.inc(int(number))

    def observe_stage(self, stage: str, seconds: float) -> None:
        """One request spent `seconds` in `stage`, one of STAGES."""
        self._stages[stage].observe(seconds)

    def render(self) -> bytes:
        """The exposition text of /metrics."""
        return generate_latest(self.registry)
