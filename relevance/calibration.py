"""Temperature calibration: one scalar that makes stated probabilities match observed frequencies.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017, arXiv 1706.04599): divide the logits by the
T > 0 that minimises the negative log-likelihood of held-out gold grades. The order of grades within a pair,
and so the grade itself, does not change.
"""

import numpy as np
from numpy.typing import ArrayLike

from relevance.scoring import grade_distribution

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
