"""Group advantages against values computed by hand."""

import math

import pytest
import torch

from training.grpo.advantages import agreement, learnable_groups, spread, stepwise_advantages

NAN = math.nan


def test_each_segment_is_compared_within_its_group() -> None:
    # Two groups of two, two segments. Segment 0 of group 0: 1, 0 -> mean .5, std sqrt(.5); of group 1: equal.
    rewards = torch.tensor([[1.0, 0.2], [0.0, 0.2], [0.5, 0.0], [0.5, 1.0]])
    high = 0.5 / (math.sqrt(0.5) + 1e-4)
    expected = torch.tensor([[high, 0.0], [-high, 0.0], [0.0, -high], [0.0, high]])
    torch.testing.assert_close(stepwise_advantages(rewards, 2), expected)


def test_a_missing_segment_counts_neither_way() -> None:
    rewards = torch.tensor([[1.0], [0.0], [NAN], [0.5]])
    advantages = stepwise_advantages(rewards, 4)[:, 0]
    # mean of 1, 0, .5 is .5; std (Bessel) is .5
    assert advantages.tolist() == pytest.approx([0.5 / 0.5001, -0.5 / 0.5001, 0.0, 0.0])


def test_a_segment_only_one_rollout_has_teaches_nothing() -> None:
    assert stepwise_advantages(torch.tensor([[1.0], [NAN], [NAN]]), 3).tolist() == [[0.0], [0.0], [0.0]]


def test_a_group_that_agrees_teaches_nothing() -> None:
    assert stepwise_advantages(torch.full((4, 2), 0.3), 4).abs().max() < 1e-3


def test_clamp_and_no_scale() -> None:
    rewards = torch.tensor([[1.0], *[[0.0]] * 15])
    assert float(stepwise_advantages(rewards, 16).max()) == pytest.approx(3.75, abs=0.01)
    assert float(stepwise_advantages(rewards, 16, clamp=2.0).max()) == 2.0
    assert float(stepwise_advantages(rewards, 16, scale=False).max()) == pytest.approx(15 / 16)


def test_tokens_get_the_advantage_of_their_segment() -> None:
    advantages = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    segments = torch.tensor([[0, 1, 1, 2], [0, 2, -1, -1]])
    assert spread(advantages, segments).tolist() == [[1.0, 2.0, 2.0, 3.0], [4.0, 6.0, 0.0, 0.0]]


def test_only_groups_of_middling_difficulty_are_learnable() -> None:
    hits = torch.tensor([1, 1, 1, 0, 0, 0, 1, 0, 0])
    assert learnable_groups(hits, 3, 0.01, 0.9).tolist() == [False] * 3 + [False] * 3 + [True] * 3


def test_agreement_counts_groups_with_one_grade() -> None:
    assert agreement(torch.tensor([7, 7, 7, 8]), 2) == 0.5
