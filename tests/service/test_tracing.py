"""Spans of a request: one and its stages, where and when they happened, and nothing at all when off."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.middleware import RequestRecord, TraceParent
from service.tracing import Tracing
from service.trail import Trail
from tests.fakes import FakeClock

STAGES = {"tokenise": 0.001, "queue": 0.002, "infer": 0.01, "post": 0.0005}


def spans_of(record: RequestRecord, trail: Trail, clock: FakeClock) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), clock)
    tracing.start()
    tracing.observe(record, trail)
    tracing.stop()
    return {span.name: span for span in exporter.get_finished_spans()}


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def test_a_request_and_its_stages() -> None:
    clock = FakeClock()
    record = RequestRecord("POST", "/score", "r-1", clock.now - 0.02, TraceParent(0xABC, 0xDEF, 1), 200, clock.now)
    trail = Trail(caller="shop", dialect="native", num_pairs=3, stage_seconds=STAGES, finished_at=clock.now - 0.001)
    spans = spans_of(record, trail, clock)
    assert list(spans) == [*STAGES, "POST /score"]
    root = spans["POST /score"]
    assert root.context.trace_id == 0xABC
    assert root.parent is not None
    assert root.parent.span_id == 0xDEF
    assert root.attributes is not None
    assert {"relevance.caller": "shop", "relevance.num_pairs": 3, "http.response.status_code": 200}.items() <= dict(
        root.attributes
    ).items()
    began, ended = times(root)
    assert ended - began == pytest.approx(2e7, abs=1000)
    at = ended - 1_000_000 - sum(int(1e9 * seconds) for seconds in STAGES.values())
    for stage, seconds in STAGES.items():
        start, end = times(spans[stage])
        assert start == pytest.approx(at, abs=1000)
        assert end - start == pytest.approx(1e9 * seconds, abs=1000)
        at = end
        parent = spans[stage].parent
        assert parent is not None
        assert parent.span_id == root.context.span_id


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (422, False), (503, True), (0, True)])
def test_what_was_not_scored_has_no_stages_and_a_fault_is_an_error(status: int, is_error: bool) -> None:
    clock = FakeClock()
    (span,) = spans_of(RequestRecord("GET", "/x", "r", clock.now, None, status, clock.now), Trail(), clock).values()
    assert span.parent is None
    assert (not span.status.is_ok and span.status.is_unset is False) == is_error


def test_nothing_of_it_is_imported_when_off() -> None:
    # The framework looks for the API by itself where it is installed; the SDK and the exporter are ours.
    code = "import sys, service.__main__; OURS = ('opentelemetry.sdk', 'opentelemetry.exporter', 'service.tracing')"
    code += "; print([name for name in sys.modules if name.startswith(OURS)])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
