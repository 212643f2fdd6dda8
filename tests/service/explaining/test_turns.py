"""Whose turn the engine is."""

import pytest

from service.explaining.turns import Turns


def simulate(share: float, pack_s: float, step_s: float, num_calls: int) -> tuple[float, int]:
    """Share of steps in the engine's time while scores always wait, and the most steps in a row."""
    turns = Turns(share, step_s)
    scored = stepped = 0.0
    row = longest = 0
    for _ in range(num_calls):
        if turns.is_steps_turn(scores_wait=True):
            turns.has_stepped(step_s, scores_waited=True)
            stepped += step_s
            row += 1
            longest = max(longest, row)
        else:
            turns.has_scored(pack_s)
            scored += pack_s
            row = 0
    return stepped / (stepped + scored), longest


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("pack_s", [0.002, 0.02])
def test_while_scores_wait_steps_get_their_share_and_never_two_in_a_row(share: float, pack_s: float) -> None:
    found, longest = simulate(share, pack_s, 0.004, 4000)
    assert found <= share + 0.005
    assert longest <= 1


def test_the_share_is_used() -> None:
    assert simulate(0.1, 0.004, 0.004, 4000)[0] == pytest.approx(0.1, abs=0.01)


def test_nothing_while_scores_wait_at_share_0_and_everything_at_1() -> None:
    assert simulate(0.0, 0.01, 0.004, 100) == (0.0, 0)
    assert simulate(1.0, 0.01, 0.004, 100)[0] == 1.0


def test_while_none_wait_every_turn_is_theirs_and_costs_nothing_later() -> None:
    turns = Turns(0.1, 0.004)
    for _ in range(100):
        assert turns.is_steps_turn(scores_wait=False)
        turns.has_stepped(0.004, scores_waited=False)
    assert not turns.is_steps_turn(scores_wait=True)  # and nothing was earned either
    turns.has_scored(0.04)
    assert turns.is_steps_turn(scores_wait=True)


def test_what_was_earned_long_ago_is_one_step() -> None:
    turns = Turns(0.1, 0.004)
    turns.has_scored(1000.0)
    assert turns.is_steps_turn(scores_wait=True)
    turns.has_stepped(0.004, scores_waited=True)
    assert not turns.is_steps_turn(scores_wait=True)


def test_a_long_step_is_paid_off() -> None:
    turns = Turns(0.5, 0.004)
    turns.has_scored(0.004)
    turns.has_stepped(0.1, scores_waited=True)
    turns.has_scored(0.05)
    assert not turns.is_steps_turn(scores_wait=True)
    turns.has_scored(0.1)
    assert turns.is_steps_turn(scores_wait=True)
