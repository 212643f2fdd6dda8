"""Capacity: the simulation against queues whose answers are known, the plan against its own arithmetic."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.capacity_check import fit
from scale.capacity import highest, make_plan
from scale.capacity_errors import CapacityError
from scale.capacity_profile import Costs, Lengths, Profile, load_profile
from scale.capacity_simulation import Arrival, Simulation, arrivals_of, served

TOKENS = 128
COSTS = Costs(seconds_per_token=7e-5, seconds_per_call=1e-3, max_pack_tokens=TOKENS)
CALL_S = 7e-5 * TOKENS + 1e-3


def profile(**traffic: Any) -> Profile:
    fields = {
        "requests_per_second": 100.0,
        "documents": {1: 1.0},
        "document_tokens": Lengths(median=TOKENS),
        "query_tokens": Lengths(median=10),
        "cached_queries": 1.0,
        "deadline_ms": 1e6,
        "is_deadline_told": False,
        **traffic,
    }
    return Profile.model_validate({"name": "p", "traffic": fields, "engine": COSTS})


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_call_a_request_waits_as_long_as_in_an_md1_queue(load: float) -> None:
    answered = served(profile(), load / CALL_S, 12_000 * CALL_S / load)
    wait = sum(answered.seconds) / len(answered.seconds) - CALL_S
    assert wait == pytest.approx(load * CALL_S / (2 * (1 - load)), rel=0.12)  # 12,000 draws: 3 % at 0.8, as it is seen
    assert answered.engine_busy_s / answered.ended_s == pytest.approx(load, rel=0.03)
    assert answered.num_calls == len(answered.seconds)


def test_beyond_saturation_the_wait_grows_with_time_and_the_engine_never_rests() -> None:
    answered = served(profile(), 1.5 / CALL_S, 2000 * CALL_S)
    assert answered.engine_busy_s / answered.ended_s > 0.99
    # Of t seconds of arrivals a third is still waiting at their end.
    assert answered.seconds[-1] == pytest.approx(2000 * CALL_S / 2, rel=0.15)


def test_a_told_deadline_keeps_overload_out_and_those_let_in_in_time() -> None:
    answered = served(profile(deadline_ms=200, is_deadline_told=True), 2.0 / CALL_S, 2000 * CALL_S)
    in_time = [seconds for seconds in answered.seconds if seconds <= 0.2]
    assert len(in_time) / len(answered.seconds) == pytest.approx(0.5, abs=0.06)
    assert all(seconds <= 0.2 or seconds == math.inf for seconds in answered.seconds)


def test_small_requests_share_calls_and_prefixes_that_are_not_held_cost_one() -> None:
    burst = [Arrival(0.0, 10, (30, 30), 2, is_prefix_cached=True) for _ in range(8)]
    together = Simulation(COSTS).run(burst)
    assert together.num_calls < 8
    assert together.engine_busy_s == pytest.approx(16 * 30 * 7e-5 + together.num_calls * 1e-3)
    alone = Simulation(COSTS).run([Arrival(0.0, 10, (30, 30), 2)])
    assert (alone.num_calls, alone.seconds[0]) == (2, pytest.approx(70 * 7e-5 + 2e-3))


def test_the_front_takes_one_request_after_the_other_and_a_cached_one_needs_no_engine() -> None:
    costs = COSTS.model_copy(update={"seconds_per_request": 0.01, "seconds_per_document": 0.001})
    answered = Simulation(costs).run([Arrival(0.0, 10, (), 5), Arrival(0.0, 10, (), 5)])
    assert answered.seconds == (pytest.approx(0.015), pytest.approx(0.03))
    assert answered.num_calls == 0


def test_what_a_request_takes_from_the_engine_makes_its_next_call_longer() -> None:
    costs = COSTS.model_copy(update={"engine_seconds_per_request": 0.003})
    burst = [Arrival(0.0, 10, (30,), 1, is_prefix_cached=True) for _ in range(4)]
    taken, plain = Simulation(costs).run(burst), Simulation(COSTS).run(burst)
    assert taken.engine_busy_s == pytest.approx(plain.engine_busy_s + 4 * 0.003)


def test_the_fit_of_the_check_finds_what_went_in_and_nothing_below_zero() -> None:
    work = np.array([[80.0, 3.0, 1.0], [190.0, 4.5, 1.0], [370.0, 5.0, 1.0], [1800.0, 16.0, 1.0]]) * 50
    assert fit(work, work @ [7e-5, 1e-3, 2e-3]) == pytest.approx((7e-5, 1e-3, 2e-3))
    assert fit(work, work @ [7e-5, 1e-3, -1e-3])[2] == 0.0


def test_explanations_take_what_is_left_and_their_share_of_what_is_not() -> None:
    costs = COSTS.model_copy(update={"seconds_per_answer_token": 2e-3, "explain_share": 0.2})
    lone = Simulation(costs).run([Arrival(0.0, 10, (TOKENS,), 1, True, answer_tokens=30.0)])
    assert lone.engine_busy_s == pytest.approx(CALL_S + 30 * 2e-3)
    assert lone.seconds[0] == pytest.approx(CALL_S)
    queue = [Arrival(0.0, 10, (TOKENS,), 1, True, answer_tokens=30.0 * (i == 0)) for i in range(40)]
    slowed, plain = Simulation(costs).run(queue).seconds[-1], 40 * CALL_S
    assert 1.05 * plain < slowed < 1.3 * plain


def test_arrivals_are_those_of_the_traffic() -> None:
    traffic = profile(documents={2: 0.5, 10: 0.5}, cached_pairs=0.25, explain_share=0.3, cached_queries=0.5).traffic
    arrivals = arrivals_of(traffic, 50.0, 100.0, seed=3)
    assert arrivals == arrivals_of(traffic, 50.0, 100.0, seed=3)
    assert len(arrivals) == pytest.approx(5000, rel=0.05)
    shown = sum(arrival.num_documents for arrival in arrivals)
    assert shown == pytest.approx(6 * len(arrivals), rel=0.05)
    assert sum(len(arrival.document_tokens) for arrival in arrivals) == pytest.approx(0.75 * shown, rel=0.03)
    assert sum(arrival.answer_tokens > 0 for arrival in arrivals) == pytest.approx(0.3 * len(arrivals), rel=0.1)
    assert sum(arrival.is_prefix_cached for arrival in arrivals) == pytest.approx(0.5 * len(arrivals), rel=0.1)


@pytest.mark.parametrize("threshold", [0.3, 7.0, 64.0])
def test_the_highest_rate_that_holds_is_found_from_above_and_from_below(threshold: float) -> None:
    found = highest(lambda rate: rate <= threshold, 8.0, precision=0.02)
    assert found is not None
    assert threshold / 1.02 <= found <= threshold
    assert highest(lambda _: False, 8.0) is None


def test_a_plan_serves_its_traffic_with_room_and_a_spare() -> None:
    content = profile(requests_per_second=900.0, deadline_ms=60, is_deadline_told=True).model_dump()
    content["machine"] = {"engines": 4, "price_per_hour": 2.0, "utilisation": 0.7, "spare": 1}
    plan = make_plan(Profile.model_validate(content))
    assert plan.knee_per_engine < 1 / CALL_S
    assert plan.engines == math.ceil(900 / (0.7 * plan.knee_per_engine))
    assert plan.machines == math.ceil(plan.engines / 4) + 1
    assert plan.rate_per_engine * (plan.machines - 1) * 4 == pytest.approx(900)
    assert plan.p99_ms < 60
    assert plan.cost_per_hour == 2.0 * plan.machines
    assert plan.cost_per_million_documents == pytest.approx(1e6 * plan.cost_per_hour / 3600 / 900)
    assert json.loads(json.dumps(plan.to_json()))["machines"] == plan.machines


def test_twice_the_traffic_needs_twice_the_engines_and_a_cache_fewer() -> None:
    once, twice, cached = (
        make_plan(profile(requests_per_second=rate, deadline_ms=60, cached_pairs=hits))
        for rate, hits in ((2000.0, 0.0), (4000.0, 0.0), (2000.0, 0.5))
    )
    assert twice.engines == pytest.approx(2 * once.engines, abs=1)
    assert cached.engines < 0.7 * once.engines


def test_a_deadline_no_engine_can_keep_is_named() -> None:
    with pytest.raises(CapacityError, match=r"traffic\.deadline_ms: even without a queue"):
        make_plan(profile(deadline_ms=5))


GOOD = """
name = "shop"
[traffic]
requests_per_second = 10
deadline_ms = 300
documents = { 20 = 1.0 }
[engine]
seconds_per_token = 1e-4
seconds_per_call = 1e-3
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("deadline_ms = 300", "", r"traffic\.deadline_ms"),
        ("deadline_ms = 300", "deadline_ms = 0", r"traffic\.deadline_ms"),
        ("deadline_ms = 300", "deadline_ms = 300\ndocs = 5", r"traffic\.docs"),
        ("{ 20 = 1.0 }", "{ 0 = 1.0 }", r"traffic\.documents.*sizes are 1 or more"),
        ("seconds_per_call = 1e-3", "seconds_per_call = -1.0", r"engine\.seconds_per_call"),
        ("[engine]", "[engine]\nresult = 'none.json'", r"none\.json"),
        ("[engine]", "[engine]\nresult = 'empty.json'", r"engine\.result"),
        ("name =", "name", r"profile\.toml"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "profile.toml"
    (tmp_path / "empty.json").write_text("{}")
    path.write_text(GOOD)
    assert load_profile(path).traffic.documents == {20: 1.0}
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(CapacityError, match=message):
        load_profile(path)


def test_costs_come_from_a_result_and_what_is_written_beside_it_counts_more(tmp_path: Path) -> None:
    costs = {"seconds_per_token": 5e-5, "seconds_per_call": 2e-3, "measured_over": "something else"}
    (tmp_path / "result.json").write_text(json.dumps({"costs": costs}))
    path = tmp_path / "profile.toml"
    path.write_text(GOOD.replace("seconds_per_token = 1e-4\n", "result = 'result.json'\n"))
    engine = load_profile(path).engine
    assert (engine.seconds_per_token, engine.seconds_per_call) == (5e-5, 1e-3)
