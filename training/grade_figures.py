"""Figures of a grading beyond the summary: per grade, per rule, before and after calibration, how sure it is.

A grading that has collapsed shows here: its grade tokens have little entropy, the recall of rare grades and of rare
rules falls to nothing, and accuracy hides it. What is scored is a distribution at the artifact's temperature T; before
calibration is the same at T = 1, p^T normalised. What a calibration on the file's own queries would give stands
beside it (training/own_calibration.py).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance import metrics
from relevance.calibration import part_of
from relevance.grades import GradeScale
from relevance.scoring import most_likely_grade
from training.data import LabelledPair
from training.own_calibration import own_calibration_errors
from training.rules.book import RuleBook
from training.rules.figures import applicability, macro_recall, recall_per_rule

NUM_BINS = 15


def uncalibrated(distribution: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """The distribution [N, K] at temperature 1 of one at `temperature`."""
    logs = temperature * np.log(np.maximum(np.asarray(distribution, dtype=np.float64), 1e-300))
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def reliability(distribution: ArrayLike, gold: ArrayLike) -> list[dict[str, float]]:
    """Mean confidence, accuracy and share of each of 15 equal bins of confidence that holds a pair."""
    p, g = np.asarray(distribution, dtype=np.float64), np.asarray(gold)
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == g
    bins = np.clip((confidence * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == index].mean()),
            "accuracy": float(hit[bins == index].mean()),
            "share": float(np.mean(bins == index)),
        }
        for index in range(NUM_BINS)
        if np.any(bins == index)
    ]


def slices_of(pairs: Sequence[LabelledPair]) -> dict[str, NDArray[np.bool_]]:
    """Parts of the data by the form of the texts, as masks [N]."""
    query_words = np.array([len(pair.query.split()) for pair in pairs])
    document_words = np.array([len(pair.document.split()) for pair in pairs])
    has_number = np.array([any(character.isdigit() for character in pair.query) for pair in pairs])
    return {
        "query of 1 or 2 words": query_words <= 2,
        "query of 3 to 5 words": (query_words > 2) & (query_words <= 5),
        "query of 6 words and more": query_words > 5,
        "number in the query": has_number,
        "document under 15 words": document_words < 15,
        "document of 15 to 80 words": (document_words >= 15) & (document_words <= 80),
        "document over 80 words": document_words > 80,
    }


def grade_details(
    distribution: ArrayLike, temperature: float, pairs: Sequence[LabelledPair], scale: GradeScale
) -> dict[str, Any]:
    """All of the above for pairs scored [N, K] at `temperature`; JSON-ready."""
    p = np.asarray(distribution, dtype=np.float64)
    gold = np.array([pair.grade for pair in pairs], dtype=np.int64)
    predicted, before = most_likely_grade(p), uncalibrated(p, temperature)
    f1 = metrics.f1_per_grade(predicted, gold, scale.num_grades)
    counts = metrics.confusion(predicted, gold, scale.num_grades)
    entropies = metrics.entropy(p)
    grades = {
        name: {
            "gold": int(counts[k].sum()),
            "predicted": int(counts[:, k].sum()),
            "f1": float(f1[k]),
            "recall": float(counts[k, k] / counts[k].sum()) if counts[k].sum() else None,
            "entropy": float(entropies[gold == k].mean()) if counts[k].sum() else None,
        }
        for k, name in enumerate(scale.names)
    }
    return {
        "temperature": temperature,
        "ece": {
            "before": metrics.expected_calibration_error(before, gold),
            "after": metrics.expected_calibration_error(p, gold),
            "own": _own(p, gold, pairs),
        },
        "reliability": {"before": reliability(before, gold), "after": reliability(p, gold)},
        "entropy": {"before": float(metrics.entropy(before).mean()), "after": float(entropies.mean())},
        "grades": grades,
        "confusion": counts.tolist(),
        "rules": _rule_figures(pairs, predicted, gold, scale.num_grades),
        "slices": {
            name: _slice_figures(predicted[mask], gold[mask], scale.num_grades)
            for name, mask in slices_of(pairs).items()
            if mask.any()
        },
    }


def _own(
    distribution: NDArray[np.float64], gold: NDArray[np.int64], pairs: Sequence[LabelledPair]
) -> dict[str, float] | None:
    """Calibrated on the file's own other queries; None if there are too few to take apart."""
    queries = [pair.query for pair in pairs]
    if len({part_of(query) for query in queries}) < 2:
        return None
    return own_calibration_errors(np.log(np.maximum(distribution, 1e-300)), gold, queries)


def _rule_figures(
    pairs: Sequence[LabelledPair], predicted: NDArray[np.int64], gold: NDArray[np.int64], num_grades: int
) -> dict[str, dict[str, Any]]:
    """Recall per rule of the repository's book; none for a scale with another number of grades."""
    book = RuleBook.preset()
    if book.num_grades != num_grades:
        return {}
    applies = applicability(book, [(pair.query, pair.document) for pair in pairs])
    return recall_per_rule(book, applies, predicted, gold)


def _slice_figures(predicted: NDArray[np.int64], gold: NDArray[np.int64], num_grades: int) -> dict[str, Any]:
    return {
        "num_pairs": len(gold),
        "accuracy": metrics.accuracy(predicted, gold),
        "macro_f1": metrics.macro_f1(predicted, gold, num_grades),
        "qwk": metrics.quadratic_weighted_kappa(predicted, gold, num_grades),
        "recall": macro_recall(predicted, gold),
    }
