"""What calibration on a file's own queries would give: where the calibration error on a new file comes from.

A model is calibrated once, on validation pairs. On a file whose grades occur with other frequencies that one
temperature is wrong, however good the model. So each file is also calibrated on its own pairs, cross-fitted by query
(relevance/calibration.py), once with a temperature alone (Guo et al., ICML 2017) and once with a temperature and a
bias a grade (Alexandari et al., "Maximum Likelihood with Bias-Corrected Calibration", ICML 2020). These are figures
about the file, never used to choose anything. The first is what a team gets that runs `answer-first calibrate` on
pairs of its own.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from relevance import metrics
from relevance.calibration import by_temperature, cross_fitted
from relevance.scoring import FloatArray, grade_distribution

_BIAS_DECAY = 1e-4  # keeps the bias of a grade that never occurs finite


def fit_temperature_and_bias(logits: ArrayLike, gold: ArrayLike) -> tuple[float, FloatArray]:
    """T and b [K] (mean 0) with the least negative log-likelihood of softmax(z / T + b); logits [N, K], gold [N]."""
    z = torch.as_tensor(np.asarray(logits, dtype=np.float64))
    target = torch.as_tensor(np.asarray(gold, dtype=np.int64))
    log_inverse = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_inverse, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(z * log_inverse.exp() + bias, target)
        value = value + _BIAS_DECAY * bias.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    found = bias.detach().numpy()
    return float(np.exp(-log_inverse.detach().numpy())), found - found.mean()


def by_temperature_and_bias(logits: FloatArray, gold: NDArray[np.int64]) -> Callable[[FloatArray], FloatArray]:
    """`fit` of a temperature and a bias a grade."""
    temperature, bias = fit_temperature_and_bias(logits, gold)
    return lambda others: grade_distribution(others / temperature + bias, 1.0)


def own_calibration_errors(logits: ArrayLike, gold: ArrayLike, queries: Sequence[str]) -> dict[str, float]:
    """Expected calibration error of a file calibrated on its own other queries: `temperature`, `temperature_and_bias`.

    Args:
        logits: label logits, or log-probabilities, [N, K].
        gold: grades, [N].
        queries: texts, N of them.

    Raises:
        ValueError: all queries fall into one part.
    """
    fits = {"temperature": by_temperature, "temperature_and_bias": by_temperature_and_bias}
    return {
        name: metrics.expected_calibration_error(cross_fitted(logits, gold, queries, fit), gold)
        for name, fit in fits.items()
    }
