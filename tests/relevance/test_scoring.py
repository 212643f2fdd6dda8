import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from relevance.calibration import fit_temperature, negative_log_likelihood
from relevance.scoring import expected_score, grade_distribution, most_likely_grade

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-50, 50, width=32))


@pytest.mark.parametrize(
    ("distribution", "score"),
    [([1, 0, 0, 0], 0.0), ([0, 0, 0, 1], 1.0), ([0.25] * 4, 0.5), ([0, 0.5, 0.5, 0], 0.5), ([0.3, 0.7], 0.7)],
)
def test_score_is_the_expected_grade_on_zero_to_one(distribution: list[float], score: float) -> None:
    assert expected_score([distribution])[0] == pytest.approx(score, abs=1e-12)


@given(LOGITS)
def test_distribution_is_the_softmax(logits: np.ndarray) -> None:
    found = grade_distribution(logits)
    np.testing.assert_allclose(found, softmax(logits.astype(np.float64), axis=1), atol=1e-12)


@given(LOGITS, st.floats(0.1, 10))
def test_temperature_keeps_the_grade_and_the_score_in_bounds(logits: np.ndarray, temperature: float) -> None:
    scaled = grade_distribution(logits, temperature)
    top = np.sort(logits, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-3
    assert (most_likely_grade(scaled) == logits.argmax(axis=1))[clear].all()
    assert ((expected_score(scaled) >= 0) & (expected_score(scaled) <= 1)).all()


def test_the_lower_grade_wins_a_tie() -> None:
    assert most_likely_grade([[0.4, 0.4, 0.2]])[0] == 0


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_fit_recovers_the_temperature_the_data_was_made_with(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40_000, 4))
    gumbel = rng.gumbel(size=logits.shape)
    gold = (logits / true_temperature + gumbel).argmax(axis=1)  # a sample of softmax(logits / T)
    assert fit_temperature(logits, gold) == pytest.approx(true_temperature, rel=0.03)


def test_fitted_temperature_is_no_worse_than_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (500, 4))
    gold = np.where(rng.random(500) < 0.6, logits.argmax(axis=1), rng.integers(0, 4, 500))
    best = fit_temperature(logits, gold)
    likelihood = negative_log_likelihood(logits, gold, best)
    assert likelihood <= min(negative_log_likelihood(logits, gold, best * f) for f in (0.95, 1.05))


@pytest.mark.parametrize(("logits", "gold"), [(np.zeros((0, 4)), []), (np.zeros((2, 4)), [0]), (np.zeros((1, 4)), [4])])
def test_fit_refuses_what_it_cannot_fit(logits: np.ndarray, gold: list[int]) -> None:
    with pytest.raises(ValueError, match="gold grades"):
        fit_temperature(logits, gold)
