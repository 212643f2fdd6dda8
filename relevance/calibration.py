"""Temperature calibration: one scalar that makes stated probabilities match observed frequencies.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017, arXiv 1706.04599): divide the logits by the
T > 0 that minimises the negative log-likelihood of held-out gold grades. The order of grades within a pair,
and so the grade itself, does not change. What a temperature is worth on queries it was not fitted on is measured by
cross-fitting: parts of the pairs by query, each calibrated on the others.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.scoring import FloatArray, grade_distribution

NUM_PARTS = 5

_LOG_RANGE = (np.log(0.05), np.log(20.0))
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def negative_log_likelihood(label_logits: ArrayLike, gold: ArrayLike, temperature: float) -> float:
    """Mean -log p(gold) in nats of label logits [N, K] at `temperature`, gold grades [N]."""
    probabilities = grade_distribution(label_logits, temperature)
    picked = probabilities[np.arange(len(probabilities)), np.asarray(gold, dtype=np.int64)]
    return float(-np.log(np.maximum(picked, 1e-300)).mean())


def fit_temperature(label_logits: ArrayLike, gold: ArrayLike, num_steps: int = 60) -> float:
    """The temperature in [0.05, 20] with the least negative log-likelihood.

    The likelihood is unimodal in log T, so golden-section search finds it to 1e-9 without a gradient.

    Raises:
        ValueError: no pairs, or a gold grade outside the logits' range.
    """
    logits, grades = np.asarray(label_logits, dtype=np.float64), np.asarray(gold, dtype=np.int64)
    if logits.ndim != 2 or len(logits) == 0 or len(logits) != len(grades):
        raise ValueError(
            f"need as many gold grades as rows of logits and at least one, got {logits.shape} and {grades.shape}"
        )
    if grades.min() < 0 or grades.max() >= logits.shape[1]:
        raise ValueError(f"gold grades must be 0 to {logits.shape[1] - 1}, got {grades.min()} to {grades.max()}")
    low, high = _LOG_RANGE
    for _ in range(num_steps):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if negative_log_likelihood(logits, grades, float(np.exp(left))) <= negative_log_likelihood(
            logits, grades, float(np.exp(right))
        ):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2.0))


def part_of(query: str, num_parts: int = NUM_PARTS) -> int:
    """The part a query belongs to, from its text alone."""
    return int.from_bytes(hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest()[:4], "big") % num_parts


def cross_fitted(
    label_logits: ArrayLike,
    gold: ArrayLike,
    queries: Sequence[str],
    fit: Callable[[FloatArray, NDArray[np.int64]], Callable[[FloatArray], FloatArray]],
) -> FloatArray:
    """Distributions [N, K] of label logits [N, K], each calibrated by what `fit` made of the other parts' pairs.

    Args:
        label_logits: logits, or log-probabilities, [N, K].
        gold: grades, [N].
        queries: texts, N of them; a query's pairs are never on both sides.
        fit: from logits and grades to a function from logits to distributions.

    Raises:
        ValueError: all queries fall into one part.
    """
    logits, grades = np.asarray(label_logits, dtype=np.float64), np.asarray(gold, dtype=np.int64)
    parts = np.array([part_of(query) for query in queries])
    if len(np.unique(parts)) < 2:
        raise ValueError(f"queries of at least two of {NUM_PARTS} parts are needed, got {len(set(queries))} queries")
    found = np.zeros_like(logits)
    for part in np.unique(parts):
        inside = parts == part
        found[inside] = fit(logits[~inside], grades[~inside])(logits[inside])
    return found


def by_temperature(label_logits: FloatArray, gold: NDArray[np.int64]) -> Callable[[FloatArray], FloatArray]:
    """`fit` of a temperature alone."""
    temperature = fit_temperature(label_logits, gold)
    return lambda logits: grade_distribution(logits, temperature)
