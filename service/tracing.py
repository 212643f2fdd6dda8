"""OpenTelemetry traces: a span for each request and one for each of its stages, in the caller's trace if it has one.

    POST /score                    |-------------------------------|
      tokenise                       |--|
      queue                             |----|
      infer                                  |-----------------|
      post                                                     |---|

The spans are made after the answer is out, from the times that were taken anyway: a request pays for building a few
objects, the exporter's thread for sending them. Needs the extra `otel`; imported only where it is asked for.
"""

import time
from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from service.middleware import RequestRecord, TraceParent
from service.trail import Trail
from service.version import VERSION

NS = 1_000_000_000
# A collector that does not answer must not hold up the end of the process for long.
SEND_TIMEOUT_S = 2.0


def send_to(endpoint: str) -> SpanProcessor:
    """Sends finished spans to an OTLP collector over HTTP, `http://host:4318/v1/traces`, from a thread of its own."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=SEND_TIMEOUT_S))


class Tracing:
    """Makes the spans of requests; an observer of `service.middleware`."""

    def __init__(self, processor: SpanProcessor, clock: Callable[[], float]) -> None:
        """`processor` is given the spans; `clock` is that of the records."""
        resource = Resource.create({SERVICE_NAME: "answer-first", SERVICE_VERSION: VERSION})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("service", VERSION)
        self._clock = clock

    def observe(self, record: RequestRecord, trail: Trail) -> None:
        """Make the spans of a request that has ended."""
        # The wall clock may be set at any time; within a request only the app's clock counts.
        began_at = time.time_ns() - int(NS * self._clock())

        def at(seconds: float) -> int:
            return began_at + int(NS * seconds)

        span = self._tracer.start_span(
            f"{record.method} {record.path[:100]}",
            context=None if record.parent is None else set_span_in_context(NonRecordingSpan(_context(record.parent))),
            kind=SpanKind.SERVER,
            start_time=at(record.started_at),
            attributes={
                "http.request.method": record.method,
                "url.path": record.path[:200],
                "http.response.status_code": record.status,
                "relevance.request_id": record.request_id,
                "relevance.caller": trail.caller,
                "relevance.dialect": trail.dialect,
                "relevance.num_pairs": trail.num_pairs,
            },
        )
        if record.status >= 500 or record.status == 0:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        starts_at = trail.finished_at - sum(trail.stage_seconds.values())
        for stage, seconds in trail.stage_seconds.items():
            child = self._tracer.start_span(stage, context=inside, start_time=at(starts_at))
            starts_at += seconds
            child.end(at(starts_at))
        span.end(at(record.ended_at))

    def start(self) -> None:
        """The exporter's thread runs already."""

    def stop(self) -> None:
        """Send what is left, and end the exporter."""
        self._provider.shutdown()


def _context(parent: TraceParent) -> SpanContext:
    return SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags))
