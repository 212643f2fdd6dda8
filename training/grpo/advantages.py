"""Group advantages per segment: every segment of a rollout is compared with the same segment of its group.

    A_ik = (r_ik - mean_j r_jk) / (std_j r_jk + eps)          rollouts i, j of one prompt; segment k
    token t of rollout i uses A_i,k(t)

mean and std (with Bessel's correction) run over the rollouts of the group that have the segment: where a reward is NaN
there is nothing to judge, the rollout counts neither way and its advantage there is 0. A segment that only one rollout
of the group has teaches nothing. With one segment this is TRL's group advantage, number for number.
"""

import torch

EPSILON = 1e-4
"""TRL's."""


def stepwise_advantages(
    rewards: torch.Tensor, num_generations: int, *, scale: bool = True, clamp: float | None = None
) -> torch.Tensor:
    """Advantages [N, K] of rewards [N, K], NaN where there is none; `num_generations` rows in a row are a group.

    `scale=False` leaves the division by the standard deviation out; `clamp` bounds the advantages to [-clamp, clamp].
    """
    grouped = rewards.view(-1, num_generations, rewards.shape[-1])
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    advantages = centred / (_nan_std(grouped) + EPSILON) if scale else centred
    advantages = advantages.reshape_as(rewards).nan_to_num(nan=0.0)
    return advantages if clamp is None else advantages.clamp(-clamp, clamp)


def _nan_std(grouped: torch.Tensor) -> torch.Tensor:
    """Standard deviation over the group [P, 1, K], NaN where fewer than two rollouts have the segment."""
    count = (~grouped.isnan()).sum(dim=1, keepdim=True)
    variance = ((grouped - grouped.nanmean(dim=1, keepdim=True)) ** 2).nansum(dim=1, keepdim=True)
    return torch.where(count > 1, (variance / (count - 1).clamp(min=1)).sqrt(), torch.nan)


def spread(advantages: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Per-token advantages [B, T] from those per segment [B, K] and each token's segment [B, T], -1 for none."""
    picked = advantages.gather(1, segments.clamp(min=0))
    return torch.where(segments >= 0, picked, torch.zeros_like(picked))


def learnable_groups(hits: torch.Tensor, num_generations: int, low: float, high: float) -> torch.Tensor:
    """Bool [N]: whether a rollout's group answers right at a rate within [low, high]; hits [N] are 0 or 1."""
    rate = hits.view(-1, num_generations).float().mean(dim=1)
    return ((rate >= low) & (rate <= high)).repeat_interleave(num_generations)


def agreement(grades: torch.Tensor, num_generations: int) -> float:
    """Share of groups whose rollouts all give one grade; grades [N], whole groups in a row."""
    grouped = grades.view(-1, num_generations)
    return float((grouped == grouped[:, :1]).all(dim=1).float().mean())
