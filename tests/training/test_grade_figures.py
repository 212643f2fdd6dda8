"""Figures beyond the summary, by hand."""

import numpy as np
import pytest

from relevance.grades import Grade, GradeScale
from relevance.scoring import grade_distribution
from relevance.spec import ScoringSpec
from training.data import LabelledPair
from training.grade_figures import grade_details, reliability, slices_of, uncalibrated

SCALE = ScoringSpec.preset("minilm-grades").scale


def pair(grade: int, query: str = "bosch drill", document: str = "Makita Drill", num_grades: int = 4) -> LabelledPair:
    return LabelledPair(query, document, tuple(float(k == grade) for k in range(num_grades)))


def test_uncalibrated_undoes_the_temperature() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)) * 3
    assert uncalibrated(grade_distribution(logits, 2.5), 2.5) == pytest.approx(grade_distribution(logits))
    assert uncalibrated([[1.0, 0.0]], 2.0).tolist() == [[1.0, 0.0]]


def test_reliability_by_hand() -> None:
    bins = reliability([[0.9, 0.1], [0.91, 0.09], [0.4, 0.6]], [0, 1, 1])
    assert bins == [
        {"confidence": pytest.approx(0.6), "accuracy": 1.0, "share": pytest.approx(1 / 3)},
        {"confidence": pytest.approx(0.905), "accuracy": 0.5, "share": pytest.approx(2 / 3)},
    ]


def test_details_by_hand() -> None:
    pairs = [pair(1)] * 30 + [pair(3)] * 10
    distribution = [[0.0, 1.0, 0.0, 0.0]] * 30 + [[0.0, 0.5, 0.0, 0.5]] * 10  # ties go to the lower grade: collapsed
    details = grade_details(distribution, 1.0, pairs, SCALE)
    assert details["grades"]["related"] == {
        "gold": 30,
        "predicted": 40,
        "f1": pytest.approx(60 / 70),
        "recall": 1.0,
        "entropy": 0.0,
    }
    assert details["grades"]["perfect"]["recall"] == 0.0
    assert details["grades"]["perfect"]["entropy"] == pytest.approx(np.log(2))
    assert details["grades"]["irrelevant"]["recall"] is None
    assert details["confusion"][3] == [0, 10, 0, 0]
    assert details["entropy"]["after"] == pytest.approx(np.log(2) / 4)
    rule = details["rules"]["brand-differs"]  # at most 1: kept in all 30 pairs where gold keeps it
    assert (rule["num_pairs"], rule["accuracy"], rule["recall"], rule["kept"]) == (40, 0.75, 0.5, 1.0)
    assert details["ece"]["after"] == pytest.approx(0.5 / 4)  # 10 of 40 at confidence .5, none right


def test_a_higher_temperature_lowers_confidence() -> None:
    distribution = grade_distribution(np.array([[4.0, 0.0, 0.0, 0.0]] * 4), 4.0)
    details = grade_details(distribution, 4.0, [pair(g) for g in (0, 0, 1, 2)], SCALE)
    assert details["entropy"]["before"] < details["entropy"]["after"]
    assert details["ece"]["before"] > details["ece"]["after"]


def test_slices_part_the_data() -> None:
    long_text = "word " * 100
    pairs = [pair(0, "cat 5", "a"), pair(0, "one two three", "word " * 20), pair(0, long_text, long_text)]
    slices = {name: mask.tolist() for name, mask in slices_of(pairs).items()}
    assert slices["query of 1 or 2 words"] == slices["number in the query"] == [True, False, False]
    assert slices["query of 3 to 5 words"] == slices["document of 15 to 80 words"] == [False, True, False]
    assert slices["query of 6 words and more"] == slices["document over 80 words"] == [False, False, True]
    assert slices["document under 15 words"] == [True, False, False]


def test_another_scale_has_no_rule_figures() -> None:
    scale = GradeScale(grades=(Grade(name="no", gain=0, label="0"), Grade(name="yes", gain=1, label="1")))
    details = grade_details([[0.2, 0.8]] * 30, 1.0, [pair(1, num_grades=2)] * 30, scale)
    assert details["rules"] == {}
    assert details["grades"]["yes"]["f1"] == 1.0
