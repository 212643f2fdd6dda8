"""Our metrics against the libraries that define them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score, ndcg_score

from relevance import metrics

GRADES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)
SCORED = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(0, 3)), min_size=2, max_size=30)


@given(GRADES)
def test_macro_f1_is_scikit_learns(rows: list[tuple[int, int]]) -> None:
    predicted, gold = zip(*rows, strict=True)
    expected = f1_score(gold, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1(predicted, gold, 4) == pytest.approx(expected)


@given(GRADES)
def test_kappa_is_scikit_learns(rows: list[tuple[int, int]]) -> None:
    predicted, gold = zip(*rows, strict=True)
    if len(set(predicted) | set(gold)) < 2:
        assert metrics.quadratic_weighted_kappa(predicted, gold, 4) == 0.0
        return
    expected = cohen_kappa_score(gold, predicted, weights="quadratic", labels=[0, 1, 2, 3])
    assert metrics.quadratic_weighted_kappa(predicted, gold, 4) == pytest.approx(expected)


@given(SCORED, st.integers(1, 12))
def test_ndcg_is_scikit_learns_with_ties(rows: list[tuple[float, int]], k: int) -> None:
    scores, grades = zip(*rows, strict=True)
    gains = 2.0 ** np.array(grades) - 1
    expected = ndcg_score([gains], [scores], k=k) if gains.any() else 0.0
    assert metrics.ndcg(scores, gains, k) == pytest.approx(expected)


@given(SCORED)
def test_rank_correlations_are_scipys(rows: list[tuple[float, int]]) -> None:
    left, right = zip(*rows, strict=True)
    if len(set(left)) < 2 or len(set(right)) < 2:
        return
    assert metrics.kendall_tau(left, right) == pytest.approx(stats.kendalltau(left, right).statistic)
    assert metrics.spearman(left, right) == pytest.approx(stats.spearmanr(left, right).statistic)


def test_mean_ndcg_leaves_small_queries_out() -> None:
    queries = ["a"] * 5 + ["b"] * 4
    gains = [0, 0, 0, 0, 1, 1, 0, 0, 0]
    perfect_for_a = [1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert metrics.mean_ndcg(perfect_for_a, gains, queries) == 1.0
    assert np.isnan(metrics.mean_ndcg([1.0], [1.0], ["a"]))


def test_reciprocal_rank() -> None:
    queries = ["a"] * 5 + ["b"] * 5
    relevant = [False, True, False, False, False] + [False] * 5
    scores = [5.0, 4.0, 3.0, 2.0, 1.0] * 2
    assert metrics.mean_reciprocal_rank(scores, relevant, queries) == pytest.approx(0.25)


def test_calibration_error_by_hand() -> None:
    # Three pairs at confidence 0.8 of which two hit, one at 0.6 that hits: |0.8 - 2/3| * 3/4 + |0.6 - 1| / 4.
    distribution = [[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.4, 0.6]]
    assert metrics.expected_calibration_error(distribution, [0, 1, 1, 1]) == pytest.approx(0.2)


def test_confusion_has_gold_in_rows() -> None:
    assert metrics.confusion([0, 1, 1], [0, 0, 1], 2).tolist() == [[1, 1], [0, 1]]


def test_entropy_by_hand() -> None:
    found = metrics.entropy([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    assert found == pytest.approx([np.log(2), 0.0, -0.25 * np.log(0.25) - 0.75 * np.log(0.75)])


def test_brier_by_hand() -> None:
    assert metrics.brier([[0.8, 0.2], [0.5, 0.5]], [0, 1]) == pytest.approx((0.08 + 0.5) / 2)


def test_summary_counts_and_agrees_with_its_parts() -> None:
    distribution = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    found = metrics.summary(
        distribution, distribution.argmax(1), distribution[:, 1], [0, 1, 1, 1, 0], ["q"] * 5, np.array([0.0, 1.0])
    )
    assert found["accuracy"] == pytest.approx(0.8)
    assert (found["num_pairs"], found["num_queries"]) == (5, 1)
    assert found["ndcg_at_10"] == pytest.approx(metrics.ndcg(distribution[:, 1], [0, 1, 1, 1, 0]))
