"""Allowances: never more than the rate over time, a burst for the idle, one overdraft, and honest waiting times."""

from hypothesis import given
from hypothesis import strategies as st

from service.rate_limit import BURST_S, Allowance
from tests.fakes import FakeClock


def test_an_idle_caller_gets_a_burst_and_then_the_rate() -> None:
    clock = FakeClock()
    allowance = Allowance(5, clock)
    assert [allowance.take(1) for _ in range(11)] == [0] * 10 + [1]
    clock.now += 0.3  # one and a half are there again
    assert [allowance.take(1) > 0 for _ in range(3)] == [False, True, True]


def test_what_is_not_used_is_not_saved_up() -> None:
    clock = FakeClock()
    allowance = Allowance(5, clock)
    clock.now += 3600
    assert [allowance.take(1) for _ in range(11)] == [0] * 10 + [1]


def test_a_request_larger_than_the_burst_passes_once_and_is_waited_for() -> None:
    clock = FakeClock()
    allowance = Allowance(10, clock)
    assert allowance.take(1000) == 0
    wait_s = allowance.take(1)
    assert wait_s == 99  # (1000 - 20 + 1) / 10, rounded up
    clock.now += wait_s - 1.5
    assert allowance.take(1) > 0
    clock.now += 1.5
    assert allowance.take(1) == 0


def test_a_clock_set_back_takes_nothing_away() -> None:
    clock = FakeClock()
    allowance = Allowance(1, clock)
    clock.now -= 1000
    assert allowance.take(1) == 0
    assert allowance.take(1) == 0
    assert allowance.take(1) == 1


@given(
    rate=st.floats(0.1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=60),
)
def test_nobody_gets_more_than_burst_rate_and_one_request(rate: float, steps: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    allowance = Allowance(rate, clock)
    began, granted, largest = clock.now, 0, 0
    for pause_s, amount in steps:
        clock.now += pause_s
        wait_s = allowance.take(amount)
        if wait_s == 0:
            granted += amount
            # What was granted before this request fits; 1e-6: sums of floats.
            assert granted - amount < max(1.0, rate * BURST_S) + rate * (clock.now - began) + 1e-6
            largest = max(largest, amount)
            assert granted <= max(1.0, rate * BURST_S) + rate * (clock.now - began) + largest + 1e-6
        else:
            clock.now += wait_s
            assert allowance.take(amount) == 0, "waiting as told was not enough"
            granted += amount
