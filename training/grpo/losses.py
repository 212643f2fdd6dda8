"""Losses beside the policy's own: the supervised anchor, and the grade's exact expectation.

    L = L_GRPO + lambda L_SFT - w J

    L_SFT   - [g log pi(grade) + (1 - g) mean_t log pi(t)]    gold answer, its grade token weighted by g
    J       sum_k pi_k R_k,   dJ/dz_k = pi_k (R_k - J)        pi over the whole vocabulary, R = 0 off the grades

The weight g is explicit because a mean over tokens leaves the grade under one percent of a long answer's gradient.
"""

import torch


def answer_loss(
    logits: torch.Tensor, target: torch.Tensor, grade_position: torch.Tensor, weight: float
) -> torch.Tensor:
    """Cross-entropy per row [B] of gold answers: logits [B, T, V] predict target [B, T] (-100: not counted).

    The token at `grade_position` [B] gets `weight`, the mean over the others 1 - `weight`; a row whose answer is the
    grade alone gives all to it.
    """
    counted = target >= 0
    nll = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), target.flatten(), ignore_index=-100, reduction="none"
    ).view(target.shape)
    grade = nll.gather(1, grade_position[:, None])[:, 0]
    num_others = counted.sum(1) - 1
    others = (nll.sum(1) - grade) / num_others.clamp(min=1)
    return torch.where(num_others > 0, weight * grade + (1.0 - weight) * others, grade)


def expected_reward(logits: torch.Tensor, label_token_ids: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """J per prompt [B]: next-token logits [B, V], label tokens [K], reward of answering each grade [B, K]."""
    return (torch.softmax(logits.float(), dim=-1)[:, label_token_ids] * rewards).sum(-1)


def label_entropy(logits: torch.Tensor, label_token_ids: torch.Tensor) -> torch.Tensor:
    """Entropy in nats [B] of the grade's distribution, label tokens renormalised; logits [B, V]."""
    log_p = torch.log_softmax(logits.float()[:, label_token_ids], dim=-1)
    return -(log_p.exp() * log_p).sum(-1)


def anchor_weight(step: int, start: float, end: float, num_steps: int) -> float:
    """lambda at an optimiser step: linear from `start` to `end` over `num_steps`, then `end` (CHORD's schedule)."""
    if num_steps <= 0 or step >= num_steps:
        return end
    return start + (end - start) * step / num_steps
