"""Losses against values computed by hand and gradients against the formula."""

import math

import pytest
import torch

from training.grpo.losses import anchor_weight, answer_loss, expected_reward, label_entropy


def test_expected_reward_has_the_gradient_of_the_formula() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1]])).requires_grad_()
    labels, rewards = torch.tensor([1, 2, 3]), torch.tensor([[0.0, 0.5, 1.0]])
    j = expected_reward(logits, labels, rewards).sum()
    assert j.item() == pytest.approx(0.2 * 0.5 + 0.1 * 1.0)
    j.backward()
    # dJ/dz_k = pi_k (R_k - J) with J = .2; token 0 is no grade, R = 0
    expected = [0.5 * (0 - 0.2), 0.2 * (0 - 0.2), 0.2 * (0.5 - 0.2), 0.1 * (1.0 - 0.2)]
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx(expected)


def test_with_an_exact_reward_the_gradient_at_gold_is_p_times_1_minus_p() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]]).requires_grad_()
    expected_reward(logits, torch.arange(3), torch.tensor([[0.0, 1.0, 0.0]])).sum().backward()
    p = float(torch.softmax(logits.detach(), -1)[0, 1])
    assert logits.grad is not None
    assert float(logits.grad[0, 1]) == pytest.approx(p * (1 - p))


def _logits(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.log(torch.tensor([probabilities]))


def test_the_grade_has_its_share_of_the_loss_whatever_the_length() -> None:
    logits = _logits([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    target = torch.tensor([[0, 0, -100]])
    grade, other = math.log(2), math.log(4)
    for weight in (0.0, 0.3, 1.0):
        loss = answer_loss(logits, target, torch.tensor([0]), weight)
        assert float(loss) == pytest.approx(weight * grade + (1 - weight) * other, rel=1e-5)


def test_an_answer_of_the_grade_alone_is_all_grade() -> None:
    loss = answer_loss(_logits([[0.5, 0.5], [0.1, 0.9]]), torch.tensor([[1, -100]]), torch.tensor([0]), 0.3)
    assert float(loss) == pytest.approx(math.log(2))


def test_the_grade_may_stand_elsewhere() -> None:
    loss = answer_loss(_logits([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([[0, 0]]), torch.tensor([1]), 1.0)
    assert float(loss) == pytest.approx(math.log(4))


@pytest.mark.parametrize(("step", "weight"), [(0, 0.9), (100, 0.475), (200, 0.05), (5000, 0.05)])
def test_the_anchor_follows_chord(step: int, weight: float) -> None:
    assert anchor_weight(step, 0.9, 0.05, 200) == pytest.approx(weight)


def test_a_constant_anchor_is_its_end() -> None:
    assert anchor_weight(7, 0.0, 0.3, 0) == 0.3


def test_entropy_is_over_the_label_tokens() -> None:
    logits = torch.tensor([[9.0, 1.0, 1.0], [9.0, 50.0, 0.0]])
    assert label_entropy(logits, torch.tensor([1, 2])).tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)
