"""Counting: every request once, times that add up, histograms that survive the way between processes."""

import json
import pickle

import pytest

from loadtest.figures import agreement, level_figures, max_late_ms, times_ms
from loadtest.mix import Request
from loadtest.processes import Outcome
from loadtest.scrape import parse
from loadtest.sender import HUNG_UP, LOST, Answer
from loadtest.tally import Tally, Times, merged, stages_of
from loadtest.work import Done

REQUEST = Request(0, "/score", b"{}", num_documents=4)
TIMING = "tokenise;dur=1.0, queue;dur=2.0, infer;dur=30.0, post;dur=0.5, total;dur=35.0"


def answer(status: int = 200, seconds: float = 0.05, late: float = 0.002, coverage: float = 1.0) -> Answer:
    usage = {"num_distinct_pairs": 4, "num_cached_pairs": 1}
    body = json.dumps({"coverage": coverage, "usage": usage}).encode() if status == 200 else b""
    return Answer(status, seconds, late, {"server-timing": TIMING} if status == 200 else {}, body)


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(), "ok"),
        (answer(coverage=0.5), "partial"),
        (answer(429), "refused"),
        (answer(504), "expired"),
        (answer(HUNG_UP), "cancelled"),
        (answer(LOST), "lost"),
        (answer(422), "http_422"),
    ],
)
def test_every_request_has_one_outcome(given: Answer, outcome: str) -> None:
    tally = Tally()
    assert tally.add(REQUEST, given, slo_s=1.0) == outcome
    assert dict(tally.outcomes) == {outcome: 1}
    assert tally.num_in_time == (outcome == "ok")


def test_late_answers_and_partial_ones_are_not_good() -> None:
    tally = Tally()
    for one in (answer(seconds=0.1), answer(seconds=0.3), answer(seconds=0.1, coverage=0.5)):
        tally.add(REQUEST, one, slo_s=0.2)
    assert tally.num_in_time == 1


def test_the_parts_of_an_answer_add_up_to_the_whole() -> None:
    tally = Tally()
    tally.add(REQUEST, answer(seconds=0.05, late=0.002), 1.0)
    parts = {name: times.mean_ms() for name, times in tally.times.items() if name.startswith("stage:")}
    assert parts["stage:outside the service"] == pytest.approx(13.0)  # 50 less 2 late, less 35 in the service
    assert parts["stage:rest of the service"] == pytest.approx(1.5)
    assert sum(value or 0.0 for value in parts.values()) == pytest.approx(50.0)


def test_histograms_are_exact_to_a_thousandth_and_survive_pickling_and_merging() -> None:
    halves = [Tally(), Tally()]
    for number in range(1, 1001):
        halves[number % 2].add(REQUEST, answer(seconds=number / 1000, late=0.0), 10.0)
    whole = merged(pickle.loads(pickle.dumps(half)) for half in halves)
    shown = times_ms(whole.times_of("answer"))
    for name, expected in (("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)):
        assert shown[name] == pytest.approx(expected, rel=0.002)
    assert shown["mean"] == pytest.approx(500.5)
    assert (whole.num_sent, whole.num_documents, whole.num_cached_pairs) == (1000, 4000, 1000)


def test_times_beyond_the_histogram_count_at_its_ends() -> None:
    times = Times()
    for seconds in (0.0, 1e5):
        times.add(seconds)
    assert len(times) == 2
    assert times.percentile_ms(100.0) == pytest.approx(600_000, rel=0.002)


def test_a_curve_rises_to_everything() -> None:
    times = Times()
    for number in range(1, 101):
        times.add(number / 1000)
    curve = times.curve()
    assert curve == sorted(curve)
    assert curve[-1] == (pytest.approx(100.0, rel=0.002), 1.0)
    assert Times().curve() == []


def test_server_timing_is_read_in_seconds() -> None:
    assert stages_of("a;dur=1.5, b; dur=20") == {"a": 0.0015, "b": 0.02}
    assert stages_of("cache;desc=hit") == {}


METRICS = """# TYPE relevance_requests_total counter
relevance_requests_total{outcome="ok",worker="0"} %d
relevance_requests_total{outcome="ok",worker="1"} %d
relevance_requests_total{outcome="overloaded",worker="0"} %d
# TYPE relevance_stage_seconds histogram
relevance_stage_seconds_sum{stage="total",worker="0"} %f
relevance_stage_seconds_count{stage="total",worker="0"} %d
"""


def test_a_scrape_is_summed_over_workers_and_taken_as_growth() -> None:
    grown = parse(METRICS % (5, 7, 2, 1.5, 12)).since(parse(METRICS % (1, 2, 2, 0.5, 3)))
    assert grown.value("relevance_requests_total", outcome="ok") == 9
    assert grown.by_label("relevance_requests_total", "outcome") == {"ok": 9, "overloaded": 0}
    assert grown.value("relevance_stage_seconds_sum") == pytest.approx(1.0)


def test_a_service_that_was_started_anew_counts_from_nothing() -> None:
    grown = parse(METRICS % (2, 0, 0, 0.1, 2)).since(parse(METRICS % (100, 0, 0, 9.0, 100)))
    assert grown.value("relevance_requests_total", outcome="ok") == 2


def told(ok: int, refused: int, mean_s: float) -> tuple[Tally, object]:
    tally = Tally()
    for _ in range(4):
        tally.add(REQUEST, answer(seconds=0.0365, late=0.0), 1.0)
    tally.add(REQUEST, answer(429), 1.0)
    return tally, agreement(tally, tally, parse(METRICS % (ok, 0, refused, mean_s * ok, ok)))


@pytest.mark.parametrize(
    ("ok", "refused", "mean_s", "counts", "means"),
    [(4, 1, 0.035, True, True), (5, 0, 0.035, False, True), (4, 2, 0.035, False, True), (4, 1, 0.040, True, False)],
)
def test_client_and_service_agree_only_if_they_do(
    ok: int, refused: int, mean_s: float, counts: bool, means: bool
) -> None:
    _, found = told(ok, refused, mean_s)
    assert isinstance(found, dict)
    # 1.5 ms apart at a median of 36.5: above a millisecond, below a twentieth.
    assert found["times_agree"]
    assert (found["counts_agree"], found["means_agree"]) == (counts, means)


def test_times_that_are_far_apart_disagree() -> None:
    tally = Tally()
    tally.add(REQUEST, answer(seconds=0.060, late=0.0), 1.0)
    assert not agreement(tally, tally, None)["times_agree"]


def test_what_counts_as_late_depends_on_what_is_measured() -> None:
    assert max_late_ms(20.0) == 5.0
    assert max_late_ms(1000.0) == pytest.approx(20.0)
    for late_s, kept_up in ((0.004, True), (0.012, False)):
        tally = Tally()
        tally.add(REQUEST, answer(late=late_s), 1.0)
        outcome = Outcome([Done(Tally(), tally, ended_s=1.0)])
        assert level_figures(outcome, 1.0, 1.0, max_late_ms(400.0), None)["client_kept_up"] == kept_up
