"""How often workers are started anew."""

from service.supervisor import MAX_RESTARTS, RESTART_WINDOW_S, RestartBudget
from tests.fakes import FakeClock


def test_a_few_restarts_are_allowed_and_more_once_these_are_past() -> None:
    clock = FakeClock()
    budget = RestartBudget(clock)
    assert [budget.allows() for _ in range(MAX_RESTARTS + 1)] == [True] * MAX_RESTARTS + [False]
    clock.now += RESTART_WINDOW_S - 0.1
    assert not budget.allows()
    clock.now += 0.2
    assert budget.allows()
