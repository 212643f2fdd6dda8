"""Figures of timed rounds and of grades: pure.

p99         nearest rank: below a hundred rounds that is the slowest of them
ratio       median of a peer by the median of ours in the same interleaved rounds; more than 1: ours is faster
difference  mean of |p(k) - p'(k)| over pairs and grades, p of float32 torch
flips       share of pairs whose likeliest grade is another
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.scoring import grade_distribution, most_likely_grade


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; ValueError of none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def time_figures(seconds: Sequence[float], num_documents: int, num_tokens: int) -> dict[str, float]:
    """Median and p99 in milliseconds, and what a second does at the median."""
    median = statistics.median(seconds)
    return {
        "median_ms": round(1e3 * median, 3),
        "p99_ms": round(1e3 * nearest_rank(seconds, 0.99), 3),
        "documents_per_s": round(num_documents / median, 2),
        "tokens_per_s": round(num_tokens / median, 1),
    }


def agreement(
    found: NDArray[np.float32], reference: NDArray[np.float32], temperature: float = 1.0
) -> dict[str, float | int]:
    """How far label logits [N, K] are from the reference's."""
    ours, theirs = grade_distribution(found, temperature), grade_distribution(reference, temperature)
    return {
        "num_pairs": len(ours),
        "mean_difference": float(np.abs(ours - theirs).mean()),
        "max_difference": float(np.abs(ours - theirs).max()),
        "grade_flips": float(np.mean(most_likely_grade(ours) != most_likely_grade(theirs))),
    }


def groups_by_memory(gib: Sequence[tuple[str, float]], limit_gib: float, always_gib: float) -> list[list[str]]:
    """Names in groups whose sizes fit into `limit_gib` beside what is in each group; in order, one at least a group."""
    groups: list[list[str]] = []
    room = 0.0
    for name, size in gib:
        if not groups or size > room:
            groups.append([])
            room = limit_gib - always_gib
        groups[-1].append(name)
        room -= size
    return groups
