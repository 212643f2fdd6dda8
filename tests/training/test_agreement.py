"""Agreement and its test against noise, by hand and against the project's own kappa."""

import numpy as np
import pytest

from relevance.metrics import quadratic_weighted_kappa
from training.evolve.agreement import agreement, compare, confusion_by_query, kappa_of_counts


def random_grading(seed: int, num_queries: int = 40) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 4, num_queries * 5)
    predicted = np.where(rng.random(len(gold)) < 0.5, gold, rng.integers(0, 4, len(gold)))
    return predicted, gold, [f"q{i // 5}" for i in range(len(gold))]


def test_confusion_by_hand() -> None:
    counts = confusion_by_query([1, 0, 1], [1, 1, 0], ["b", "a", "b"], 2)
    assert counts.tolist() == [[[0, 0], [1, 1]], [[0, 1], [0, 0]]]


@pytest.mark.parametrize("seed", range(3))
def test_kappa_is_that_of_the_metrics(seed: int) -> None:
    predicted, gold, queries = random_grading(seed)
    counts = confusion_by_query(predicted, gold, queries, 4)
    expected = quadratic_weighted_kappa(predicted, gold, 4)
    assert kappa_of_counts(counts.sum(0)) == pytest.approx(expected, abs=1e-12)
    assert agreement([counts, counts]) == pytest.approx(expected, abs=1e-12)


def test_a_constant_gold_has_no_agreement_to_speak_of() -> None:
    assert kappa_of_counts(confusion_by_query([0, 0], [0, 0], ["a", "a"], 3).sum(0)) == 0.0


def test_a_clear_gain_is_told_from_noise() -> None:
    predicted, gold, queries = random_grading(5)
    worse = confusion_by_query(predicted, gold, queries, 4)
    better = confusion_by_query(np.where(np.arange(len(gold)) % 3 == 0, gold, predicted), gold, queries, 4)
    forward, backward = compare([better], [worse], 500, 0), compare([worse], [better], 500, 0)
    assert forward.difference == -backward.difference > 0.0
    assert forward.p_value < 0.01
    assert backward.p_value == 1.0


def test_no_difference_is_never_a_gain() -> None:
    predicted, gold, queries = random_grading(6)
    counts = confusion_by_query(predicted, gold, queries, 4)
    assert compare([counts], [counts], 200, 0).p_value == 1.0


def test_noise_passes_about_as_often_as_the_level_says() -> None:
    passed = 0
    for seed in range(200):
        gold = random_grading(seed)[1]
        left, right = (
            np.where(np.random.default_rng(1000 * k + seed).random(len(gold)) < 0.6, gold, 1) for k in (1, 2)
        )
        queries = random_grading(seed)[2]
        files = [confusion_by_query(p, gold, queries, 4) for p in (left, right)]
        passed += compare(files[:1], files[1:], 200, seed).p_value < 0.05
    assert 2 <= passed <= 22  # binomial(200, .05): 10 expected, 99.9 % within 2 to 21


def test_gradings_of_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="same pairs"):
        compare([np.ones((2, 2, 2))], [np.zeros((2, 2, 2))], 100, 0)
