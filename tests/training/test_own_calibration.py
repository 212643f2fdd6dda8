"""Temperature and bias a grade, on a file's own queries."""

import numpy as np
import pytest

from relevance.metrics import expected_calibration_error
from relevance.scoring import grade_distribution
from training.own_calibration import fit_temperature_and_bias, own_calibration_errors

BIAS = np.array([1.5, 0.0, -1.0, -0.5])


def drawn(num_pairs: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Logits and grades drawn from softmax(z / 2 + BIAS)."""
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(num_pairs, 4)) * 3
    truth = grade_distribution(logits / 2 + BIAS)
    return logits, np.array([generator.choice(4, p=row) for row in truth])


def test_what_made_the_grades_is_found_again() -> None:
    temperature, bias = fit_temperature_and_bias(*drawn())
    assert temperature == pytest.approx(2.0, rel=0.08)
    assert bias == pytest.approx(BIAS - BIAS.mean(), abs=0.12)


def test_a_grade_that_never_occurs_keeps_a_finite_bias() -> None:
    _, bias = fit_temperature_and_bias(np.random.default_rng(0).normal(size=(50, 3)), np.arange(50) % 2)
    assert np.isfinite(bias).all()
    assert bias[2] < bias[0]


def test_a_bias_mends_what_a_temperature_cannot() -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(size=(4000, 4)) * 2
    logits[:, 0] += 4.0  # sure of a grade that is given as rarely as the others
    gold = np.array([generator.choice(4, p=row) for row in grade_distribution(logits - [4.0, 0, 0, 0])])
    errors = own_calibration_errors(logits, gold, [f"query {i // 20}" for i in range(len(gold))])
    assert errors["temperature_and_bias"] < 0.03 < errors["temperature"]
    assert errors["temperature"] < expected_calibration_error(grade_distribution(logits), gold)
