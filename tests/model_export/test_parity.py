"""The gate on distributions small enough to work out by hand."""

import numpy as np
import pytest

from model_export.errors import GateError
from model_export.parity import Thresholds, check, compare, decided_flips

STRICT = Thresholds(max_difference=0.05, mean_difference=0.02, decided_flips=0.0, near_tie=0.1, kendall_tau=0.9)
REFERENCE = np.array([[0.7, 0.3], [0.52, 0.48], [0.2, 0.8], [0.4, 0.6]])


def test_compare_reports_what_differs() -> None:
    other = REFERENCE.copy()
    other[0] = [0.66, 0.34]
    agreement = compare("a -> b", REFERENCE, other)
    assert agreement.max_difference == pytest.approx(0.04)
    assert agreement.mean_difference == pytest.approx(0.04 * 2 / 8)
    assert agreement.grade_flips == 0.0
    assert agreement.kendall_tau == 1.0


def test_a_flip_between_near_ties_is_reported_but_not_decided() -> None:
    other = REFERENCE.copy()
    other[1] = [0.48, 0.52]
    assert compare("a -> b", REFERENCE, other).grade_flips == 0.25
    assert decided_flips(REFERENCE, other, near_tie=0.1) == 0.0
    assert decided_flips(REFERENCE, other, near_tie=0.01) == 0.25


def test_preference_is_towards_the_grade_it_flipped_to_not_the_runner_up() -> None:
    reference, other = np.array([[0.41, 0.40, 0.19]]), np.array([[0.3, 0.3, 0.4]])
    assert decided_flips(reference, other, near_tie=0.1) == 1.0


@pytest.mark.parametrize(
    ("row", "changed", "reason"),
    [
        (0, [0.6, 0.4], "max_difference"),
        (3, [0.55, 0.45], "decided_flips"),
        (0, [0.1, 0.9], "kendall_tau"),
        (0, [np.nan, np.nan], "not finite"),
    ],
)
def test_each_figure_can_refuse(row: int, changed: list[float], reason: str) -> None:
    other = REFERENCE.copy()
    other[row] = changed
    with pytest.raises(GateError, match=reason):
        check(compare("a -> b", REFERENCE, other), decided_flips(REFERENCE, other, STRICT.near_tie), STRICT)


def test_the_mean_can_refuse_where_no_single_pair_does() -> None:
    other = REFERENCE + np.array([0.03, -0.03])
    with pytest.raises(GateError, match=r"mean_difference 0\.03 > 0\.02$"):
        check(compare("a -> b", REFERENCE, other), 0.0, STRICT)


def test_what_is_within_every_threshold_passes() -> None:
    other = REFERENCE + np.array([0.01, -0.01])
    check(compare("a -> b", REFERENCE, other), decided_flips(REFERENCE, other, STRICT.near_tie), STRICT)
