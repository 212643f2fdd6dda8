"""The cost model: finds the line, follows a machine that changes, and does not believe a stall."""

import numpy as np
import pytest

from service.cost import CostModel

A, B = 8e-5, 7e-4


def seconds(num_tokens: int, slowdown: float = 1.0) -> float:
    return slowdown * (A * num_tokens + B)


def learn(cost: CostModel, number: int, slowdown: float = 1.0, noise: float = 0.05, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for tokens in rng.integers(10, 130, number).tolist():
        cost.observe(tokens, seconds(tokens, slowdown) * float(rng.lognormal(0, noise)))


def test_it_starts_from_the_best_of_each_size() -> None:
    cost = CostModel()
    cost.start([(20, 1.0), (20, seconds(20)), (128, seconds(128)), (128, 0.5), (64, seconds(64))])
    assert cost.seconds_per_token == pytest.approx(A)
    assert cost.seconds_per_call == pytest.approx(B)
    assert cost.seconds(1000, 8) == pytest.approx(1000 * A + 8 * B)


def test_one_size_is_no_measurement() -> None:
    cost = CostModel(A, B)
    cost.start([(20, 1.0), (20, 2.0)])
    assert cost.seconds_per_token == pytest.approx(A)


def test_a_line_through_noise_never_falls_with_tokens() -> None:
    cost = CostModel()
    cost.start([(10, 0.02), (100, 0.01)])
    assert cost.seconds_per_token > 0
    assert cost.seconds_per_call >= 0


@pytest.mark.parametrize("guess", [(1e-3, 1e-2), (1e-6, 1e-5)], ids=["too slow", "too fast"])
def test_it_finds_the_line_from_a_wrong_guess(guess: tuple[float, float]) -> None:
    cost = CostModel(*guess)
    learn(cost, 200)
    assert cost.seconds(100) == pytest.approx(seconds(100), rel=0.05)
    assert cost.seconds(20) == pytest.approx(seconds(20), rel=0.1)


def test_it_follows_a_machine_that_becomes_slower() -> None:
    cost = CostModel(A, B)
    learn(cost, 200)
    learn(cost, 100, slowdown=2.0, seed=1)
    assert cost.seconds(100) == pytest.approx(seconds(100, 2.0), rel=0.1)


def test_a_stall_is_not_believed() -> None:
    cost = CostModel(A, B)
    learn(cost, 200)
    before = cost.seconds(100)
    cost.observe(100, 3600.0)
    assert cost.seconds(100) == pytest.approx(before, rel=0.1)
    learn(cost, 20, seed=2)
    assert cost.seconds(100) == pytest.approx(before, rel=0.1)


def test_calls_of_one_size_teach_nothing_wrong_of_others() -> None:
    cost = CostModel(A, B)
    learn(cost, 200)
    rng = np.random.default_rng(3)
    for _ in range(3000):
        cost.observe(120, seconds(120) * float(rng.lognormal(0, 0.05)))
    assert cost.seconds(20) == pytest.approx(seconds(20), rel=0.5)


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_ignored(value: float) -> None:
    cost = CostModel(A, B)
    cost.observe(10, value)
    assert cost.seconds(100) == pytest.approx(seconds(100))


def test_sizes() -> None:
    cost = CostModel(1e-4, 1e-3)
    assert cost.tokens_within(0.011) == pytest.approx(100)
    assert cost.tokens_for_efficiency(0.95) == pytest.approx(190)


def test_small_calls_between_many_large_ones_do_not_turn_the_line() -> None:
    cost = CostModel(A, B)
    rng = np.random.default_rng(4)
    for number in range(2000):
        tokens = 8 if number % 8 == 0 else int(rng.integers(110, 128))
        stalled = rng.random() < 0.05
        cost.observe(tokens, seconds(tokens) * float(rng.lognormal(0, 0.2)) + 0.03 * stalled)
        assert cost.seconds(100) < 3 * seconds(100)
    assert cost.seconds(100) == pytest.approx(seconds(100), rel=0.5)


def test_what_was_too_slow_is_forgotten_as_soon_as_calls_are_fast() -> None:
    cost = CostModel(A, B)
    learn(cost, 200, slowdown=10.0)
    assert cost.seconds(100) > 5 * seconds(100)
    learn(cost, 100, seed=5)
    assert cost.seconds(100) == pytest.approx(seconds(100), rel=0.7)


def test_calls_that_a_line_does_not_fit_never_cost_less_than_nothing() -> None:
    cost = CostModel(A, B)
    for tokens in [*range(20, 128)] * 3:
        cost.observe(tokens, 1e-6 * tokens**2)
        assert cost.seconds_per_call >= 0
        assert cost.seconds_per_token > 0
    assert cost.seconds(100) == pytest.approx(0.01, rel=0.2)
