"""Ranking, classification and calibration metrics in plain numpy, one definition for every stage.

Gold grades are integers 0 to K-1. Ranking metrics follow trec_eval over the judged pool of each query, with
the scale's gains; queries with fewer than five judged documents do not rank anything and are left out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_DOCUMENTS = 5


def accuracy(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Share of equal grades."""
    return float(np.mean(np.asarray(predicted) == np.asarray(gold)))


def f1_per_grade(predicted: ArrayLike, gold: ArrayLike, num_grades: int) -> NDArray[np.float64]:
    """F1 of each grade [K]; 0 for a grade that is neither predicted nor gold."""
    p, g = np.asarray(predicted), np.asarray(gold)
    scores = np.zeros(num_grades)
    for grade in range(num_grades):
        hits = np.sum((p == grade) & (g == grade))
        total = np.sum(p == grade) + np.sum(g == grade)
        scores[grade] = 2.0 * hits / total if total else 0.0
    return scores


def macro_f1(predicted: ArrayLike, gold: ArrayLike, num_grades: int) -> float:
    """Mean F1 over the grades that occur among gold or predicted grades (as scikit-learn has it)."""
    present = np.union1d(np.asarray(predicted), np.asarray(gold)).astype(np.int64)
    return float(f1_per_grade(predicted, gold, num_grades)[present].mean())


def quadratic_weighted_kappa(predicted: ArrayLike, gold: ArrayLike, num_grades: int) -> float:
    """Cohen's kappa with weights (i - j)^2; 0 where either side is constant by chance agreement."""
    p, g = np.asarray(predicted, dtype=np.int64), np.asarray(gold, dtype=np.int64)
    observed = np.zeros((num_grades, num_grades))
    np.add.at(observed, (p, g), 1.0)
    expected = np.outer(observed.sum(1), observed.sum(0)) / len(p)
    steps = np.arange(num_grades)
    weights = (steps[:, None] - steps[None, :]) ** 2
    chance = float((weights * expected).sum())
    return 1.0 - float((weights * observed).sum()) / chance if chance > 0.0 else 0.0


def ndcg(scores: ArrayLike, gains: ArrayLike, k: int = 10) -> float:
    """nDCG@k of one query: gains [N] in the order of falling scores [N], log2 discount; 0 if nothing has gain.

    Equal scores share the mean of the gains they compete for (as scikit-learn's `ndcg_score`), so that input
    order cannot buy a better figure.
    """
    s, g = np.asarray(scores, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    ideal = _dcg(np.sort(g)[::-1], k)
    if ideal == 0.0:
        return 0.0
    order = np.argsort(-s, kind="stable")
    _, inverse = np.unique(-s[order], return_inverse=True)
    means = np.bincount(inverse, weights=g[order]) / np.bincount(inverse)
    return _dcg(means[inverse], k) / ideal


def _dcg(gains: NDArray[np.float64], k: int) -> float:
    top = gains[:k]
    return float(np.sum(top / np.log2(np.arange(2, len(top) + 2))))


def _groups(queries: Sequence[str], min_documents: int) -> list[NDArray[np.int64]]:
    _, inverse = np.unique(np.asarray(queries, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    splits = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return [rows for rows in splits if len(rows) >= min_documents]


def mean_ndcg(
    scores: ArrayLike, gains: ArrayLike, queries: Sequence[str], k: int = 10, min_documents: int = MIN_DOCUMENTS
) -> float:
    """Mean nDCG@k over the queries with at least `min_documents` rows; nan where there is none."""
    s, g = np.asarray(scores, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    values = [ndcg(s[rows], g[rows], k) for rows in _groups(queries, min_documents)]
    return float(np.mean(values)) if values else float("nan")


def mean_reciprocal_rank(
    scores: ArrayLike, relevant: ArrayLike, queries: Sequence[str], k: int = 10, min_documents: int = MIN_DOCUMENTS
) -> float:
    """Mean of 1 / rank of the first relevant document within k (0 if none); ties keep input order."""
    s, r = np.asarray(scores, dtype=np.float64), np.asarray(relevant, dtype=bool)
    values = []
    for rows in _groups(queries, min_documents):
        ranked = r[rows][np.argsort(-s[rows], kind="stable")][:k]
        values.append(1.0 / (int(np.argmax(ranked)) + 1) if ranked.any() else 0.0)
    return float(np.mean(values)) if values else float("nan")


def confusion(predicted: ArrayLike, gold: ArrayLike, num_grades: int) -> NDArray[np.int64]:
    """Counts [K, K]: row the gold grade, column the predicted one."""
    counts = np.zeros((num_grades, num_grades), dtype=np.int64)
    np.add.at(counts, (np.asarray(gold, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)
    return counts


def entropy(distribution: ArrayLike) -> NDArray[np.float64]:
    """Entropy in nats of each distribution, [N] from [N, K]; ln K where all grades are as likely."""
    p = np.asarray(distribution, dtype=np.float64)
    return np.asarray(-(p * np.log(np.where(p > 0.0, p, 1.0))).sum(axis=1), dtype=np.float64)


def expected_calibration_error(distribution: ArrayLike, gold: ArrayLike, num_bins: int = 15) -> float:
    """Confidence ECE (Guo et al. 2017): mean |confidence - accuracy| over equal-width bins, weighted by size."""
    p, g = np.asarray(distribution, dtype=np.float64), np.asarray(gold)
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == g
    bins = np.clip((confidence * num_bins).astype(np.int64), 0, num_bins - 1)
    sizes = np.bincount(bins, minlength=num_bins)
    gaps = np.abs(np.bincount(bins, confidence, num_bins) - np.bincount(bins, hit.astype(np.float64), num_bins))
    return float(gaps.sum() / sizes.sum())


def brier(distribution: ArrayLike, gold: ArrayLike) -> float:
    """Mean squared distance between the distribution [N, K] and the one-hot gold grade, in [0, 2]."""
    p = np.asarray(distribution, dtype=np.float64)
    return float(((p - np.eye(p.shape[1])[np.asarray(gold, dtype=np.int64)]) ** 2).sum(1).mean())


def spearman(left: ArrayLike, right: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors [N], ties at their mean rank; nan for a constant vector."""
    a, b = (_mean_ranks(np.asarray(values, dtype=np.float64)) for values in (left, right))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0.0 else float("nan")


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def kendall_tau(left: ArrayLike, right: ArrayLike) -> float:
    """Kendall's tau-b between two score vectors [N]; 1 for N < 2. O(N^2) memory: meant for a few thousand."""
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if len(a) < 2:
        return 1.0
    i, j = np.triu_indices(len(a), k=1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    norm = np.sqrt(np.sum(x != 0.0)) * np.sqrt(np.sum(y != 0.0))
    return float(np.sum(x * y) / norm) if norm > 0.0 else 1.0


def summary(
    distribution: ArrayLike,
    predicted: ArrayLike,
    scores: ArrayLike,
    gold: ArrayLike,
    queries: Sequence[str],
    gains: NDArray[np.float64],
) -> dict[str, float]:
    """The figures every evaluation prints, from N scored pairs."""
    g = np.asarray(gold, dtype=np.int64)
    num_grades = len(gains)
    return {
        "accuracy": accuracy(predicted, g),
        "macro_f1": macro_f1(predicted, g, num_grades),
        "qwk": quadratic_weighted_kappa(predicted, g, num_grades),
        "ndcg_at_10": mean_ndcg(scores, gains[g], queries),
        "ece": expected_calibration_error(distribution, g),
        "num_pairs": len(g),
        "num_queries": len(set(queries)),
    }
