"""From label logits to what a caller sees.

    distribution  p(k) = softmax(logits / temperature)(k)      over the K label tokens only
    grade         argmax_k p(k)                                the label token greedy decoding would emit
    score         sum_k k p(k) / (K - 1)                       the expected grade on [0, 1]

The temperature (see `relevance.calibration`) never changes the grade.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def grade_distribution(label_logits: ArrayLike, temperature: float = 1.0) -> FloatArray:
    """Probability of each grade, [N, K] from label logits [N, K]; computed in float64."""
    logits = np.asarray(label_logits, dtype=np.float64) / temperature
    logits = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float64)


def expected_score(distribution: ArrayLike) -> FloatArray:
    """Expected grade scaled to [0, 1]: [N] from a distribution [N, K]."""
    probabilities = np.asarray(distribution, dtype=np.float64)
    top = probabilities.shape[-1] - 1
    return np.asarray(np.clip(probabilities @ (np.arange(top + 1) / top), 0.0, 1.0), dtype=np.float64)


def most_likely_grade(distribution: ArrayLike) -> IntArray:
    """Index of the most likely grade, [N]; the lower grade wins a tie."""
    return np.asarray(np.argmax(np.asarray(distribution), axis=-1), dtype=np.int64)
