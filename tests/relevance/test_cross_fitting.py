"""Calibration on a file's own other queries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.calibration import NUM_PARTS, by_temperature, cross_fitted, part_of
from relevance.metrics import expected_calibration_error
from relevance.scoring import grade_distribution


@given(st.text())
def test_a_query_has_one_part(query: str) -> None:
    assert part_of(query) == part_of(query) in range(NUM_PARTS)


def test_queries_spread_over_all_parts() -> None:
    counts = np.bincount([part_of(f"query {number}") for number in range(1000)], minlength=NUM_PARTS)
    assert counts.min() > 150


def test_no_pair_is_calibrated_by_its_own_query() -> None:
    queries = [f"query {number}" for number in range(20)]
    seen: list[int] = []

    def fit(logits: np.ndarray, gold: np.ndarray):  # type: ignore[no-untyped-def]
        known = set(logits[:, 0])

        def apply(others: np.ndarray) -> np.ndarray:
            assert known.isdisjoint(others[:, 0])
            seen.append(len(others))
            return others

        return apply

    logits = np.stack([np.arange(20.0), np.zeros(20)], axis=1)
    assert cross_fitted(logits, np.zeros(20, dtype=int), queries, fit).tolist() == logits.tolist()
    assert sum(seen) == 20


def test_overconfident_logits_come_out_calibrated() -> None:
    generator = np.random.default_rng(3)
    honest = generator.normal(size=(4000, 4)) * 1.5
    gold = np.array([generator.choice(4, p=row) for row in grade_distribution(honest)])
    stated = 3.0 * honest
    found = cross_fitted(stated, gold, [f"query {i // 10}" for i in range(4000)], by_temperature)
    assert expected_calibration_error(grade_distribution(stated), gold) > 0.15
    assert expected_calibration_error(found, gold) < 0.03


def test_one_query_cannot_be_taken_apart() -> None:
    with pytest.raises(ValueError, match="at least two of 5 parts"):
        cross_fitted(np.zeros((3, 4)), [0, 1, 2], ["same"] * 3, by_temperature)
