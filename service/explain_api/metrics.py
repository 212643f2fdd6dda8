"""The Prometheus series of explanations, in the registry of `service.metrics`; all exist from the start.

What the engine's side counts (`ExplainingFigures`) is read at a scrape; what readers see is counted here.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from service.explaining.events import Done, ExplainingFigures

SOURCES = ("decoded", "shared", "cached")
# 100 us to 26 s by the square root of two, as the stages of a score.
FIRST_BUCKETS_S = tuple(round(1e-4 * 2 ** (step / 2), 7) for step in range(37))
TOKEN_BUCKETS_S = FIRST_BUCKETS_S[:28]


class ExplainMetrics:
    """Collectors of one app."""

    def __init__(self, registry: CollectorRegistry, outcomes: Sequence[str]) -> None:
        """`outcomes` are the ways an explanation ends for its reader."""
        self._registry = registry
        explanations = Counter(
            "relevance_explanations_total", "Explanations asked for, by outcome.", ["outcome"], registry=registry
        )
        self._outcomes = {outcome: explanations.labels(outcome) for outcome in outcomes}
        sources = Counter(
            "relevance_explanation_sources_total",
            "Explanations by where they came from: decoded, shared with one under way, or cached.",
            ["source"],
            registry=registry,
        )
        self._sources = {source: sources.labels(source) for source in SOURCES}
        self._handles = Counter("relevance_handles_total", "Handles given with scores.", registry=registry)
        self._first_piece = Histogram(
            "relevance_explain_first_piece_seconds",
            "From the request's headers to the first piece of the explanation behind the grade.",
            buckets=FIRST_BUCKETS_S,
            registry=registry,
        )
        self._token = Histogram(
            "relevance_explain_token_seconds",
            "Mean time between two tokens of one decoded explanation.",
            buckets=TOKEN_BUCKETS_S,
            registry=registry,
        )
        self._streams = Gauge("relevance_event_streams", "Streams of events that are open.", registry=registry)

    def count_outcome(self, outcome: str) -> None:
        """One explanation ended for its reader: `ok`, `cancelled` or an error's code."""
        self._outcomes[outcome].inc()

    def count_source(self, source: str) -> None:
        """One explanation is read, from one of SOURCES."""
        self._sources[source].inc()

    def count_handles(self, number: int) -> None:
        """So many handles were given."""
        self._handles.inc(number)

    def observe_first_piece(self, seconds: float) -> None:
        """A reader saw the first piece."""
        self._first_piece.observe(seconds)

    def observe_decoded(self, done: Done) -> None:
        """An explanation was decoded to its end."""
        timing, num_tokens = done.timing, done.usage.completion_tokens
        if num_tokens > 1:
            self._token.observe((timing.total_s - timing.first_token_s) / (num_tokens - 1))

    def opened(self, number: int) -> None:
        """Streams were opened (1) or closed (-1)."""
        self._streams.inc(number)

    def watch(self, noun: str, documentation: str, read: Callable[[], float]) -> None:
        """A gauge `relevance_{noun}` that is read when it is scraped."""
        Gauge(f"relevance_{noun}", documentation, registry=self._registry).set_function(read)

    def watch_figures(self, figures: ExplainingFigures) -> None:
        """Export what the engine's side counts."""
        self._registry.register(FiguresCollector(figures))


class FiguresCollector(Collector):
    """`ExplainingFigures` as counters."""

    def __init__(self, figures: ExplainingFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """The families as they stand."""
        figures = self._figures
        yield _family("explain_tokens", "Tokens decoded, those that the grammar forces included.", figures.tokens)
        yield _family("explain_decode_steps", "Engine calls that decoded.", figures.decode_steps)
        yield _family("explain_decode_seconds", "Time in those calls.", figures.decode_seconds)
        yield _labelled(
            "explain_begun",
            "Explanations begun, from held KV (resumed) or by computing the pair anew (prefilled).",
            "kv",
            {"resumed": figures.resumed, "prefilled": figures.prefilled},
        )
        yield _labelled(
            "explain_given_up",
            "Decodes that did not come to their end, by reason.",
            "reason",
            {
                "cancelled": figures.cancelled,
                "expired": figures.expired,
                "failed": figures.failed,
                "refused": figures.refused,
                "cut": figures.cut,
            },
        )
        yield _labelled(
            "explain_kept_pairs",
            "Scored pairs whose KV was kept for an explanation, and those evicted since.",
            "event",
            {"kept": figures.kept_pairs, "evicted": figures.evicted_pairs},
        )


def _family(noun: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"relevance_{noun}", documentation, value=value)


def _labelled(noun: str, documentation: str, label: str, values: dict[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"relevance_{noun}", documentation, labels=[label])
    for name, value in values.items():
        family.add_metric([name], value)
    return family
