"""Whether one grading agrees better with gold than another, or only seems to.

Agreement of a file is the quadratic weighted kappa; of several, their mean. The test is a paired bootstrap over
queries (documents of a query share its fate, so they are drawn together): queries of every file are drawn with
replacement, both gradings are scored on the same draw, and

    p = (1 + number of draws where the one is not better) / (1 + number of draws)

estimates how often the difference would vanish or turn round on other queries of the same kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def confusion_by_query(predicted: ArrayLike, gold: ArrayLike, queries: Sequence[str], num_grades: int) -> FloatArray:
    """Counts [Q, K, K] (predicted, gold) of each query, in order of first appearance."""
    index = {query: number for number, query in enumerate(dict.fromkeys(queries))}
    rows = np.array([index[query] for query in queries], dtype=np.int64)
    counts = np.zeros((len(index), num_grades, num_grades))
    np.add.at(counts, (rows, np.asarray(predicted, dtype=np.int64), np.asarray(gold, dtype=np.int64)), 1.0)
    return counts


def kappa_of_counts(counts: ArrayLike) -> FloatArray:
    """Quadratic weighted kappa of confusion counts [..., K, K]; 0 where chance agrees wholly."""
    observed = np.asarray(counts, dtype=np.float64)
    total = observed.sum(axis=(-2, -1))
    steps = np.arange(observed.shape[-1])
    weights = (steps[:, None] - steps[None, :]) ** 2.0
    expected = observed.sum(-1)[..., :, None] * observed.sum(-2)[..., None, :]
    chance = (weights * expected).sum(axis=(-2, -1)) / np.maximum(total, 1.0)
    error = (weights * observed).sum(axis=(-2, -1))
    return np.where(chance > 0.0, 1.0 - error / np.where(chance > 0.0, chance, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better one grading is than another."""

    agreement: float
    other_agreement: float
    p_value: float
    """One-sided; small where the difference holds on other queries, too."""

    @property
    def difference(self) -> float:
        """Agreement gained."""
        return self.agreement - self.other_agreement


def agreement(files: Sequence[FloatArray]) -> float:
    """Mean kappa of files given as counts [Q, K, K]."""
    return float(np.mean([kappa_of_counts(counts.sum(0)) for counts in files]))


def compare(files: Sequence[FloatArray], others: Sequence[FloatArray], resamples: int, seed: int) -> Comparison:
    """Paired bootstrap of two gradings of the same files, each file as counts [Q, K, K] of the same queries.

    Raises:
        ValueError: the gradings are not of the same pairs.
    """
    rng = np.random.default_rng(seed)
    difference = np.zeros(resamples)
    for counts, other in zip(files, others, strict=True):
        if not np.array_equal(counts.sum(1), other.sum(1)):
            raise ValueError("only gradings of the same pairs can be compared")
        num_queries, num_grades, _ = counts.shape
        draws = rng.multinomial(num_queries, np.full(num_queries, 1.0 / num_queries), size=resamples).astype(np.float64)
        mine, theirs = (
            kappa_of_counts((draws @ c.reshape(num_queries, -1)).reshape(resamples, num_grades, num_grades))
            for c in (counts, other)
        )
        difference += (mine - theirs) / len(files)
    p_value = float((1 + np.sum(difference <= 0.0)) / (1 + resamples))
    return Comparison(agreement(files), agreement(others), p_value)
