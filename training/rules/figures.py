"""What a rule book says of graded pairs: where rules apply, whether gold keeps them, whether a model does.

coverage   pairs a rule applies to
gold keeps share of them whose gold grade is within the rule's effect
recall     mean over the gold grades among them of the share graded right: falls when a model forgets the rare ones
kept       share of those whose gold grade keeps the effect that the model's grade keeps, too
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.metrics import accuracy
from training.rules.book import RuleBook
from training.rules.text import TextFeatures


def applicability(book: RuleBook, pairs: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
    """Which rules apply to which (query, document): bool [N, R], False throughout for a rule without a condition."""
    out = np.zeros((len(pairs), len(book.rules)), dtype=bool)
    for row, (query, document) in enumerate(pairs):
        features = TextFeatures.of(query), TextFeatures.of(document)
        for column, rule in enumerate(book.rules):
            out[row, column] = rule.applies is not None and rule.applies.holds(*features)
    return out


def macro_recall(predicted: ArrayLike, gold: ArrayLike) -> float:
    """Mean over the grades in `gold` [N] of the share of their pairs that `predicted` [N] has right; nan for none."""
    p, g = np.asarray(predicted), np.asarray(gold)
    return float(np.mean([np.mean(p[g == grade] == grade) for grade in np.unique(g)])) if len(g) else float("nan")


def coverage(book: RuleBook, applies: NDArray[np.bool_], gold: ArrayLike) -> dict[str, dict[str, Any]]:
    """Pairs, share gold keeps and mean gold grade of each rule that applies anywhere."""
    g = np.asarray(gold, dtype=np.int64)
    out: dict[str, dict[str, Any]] = {}
    for column, rule in enumerate(book.rules):
        grades = g[applies[:, column]]
        if len(grades):
            keeps = float(np.mean([rule.effect.keeps(int(grade)) for grade in grades]))
            out[rule.id] = {"num_pairs": len(grades), "gold_keeps": keeps, "mean_grade": float(grades.mean())}
    return out


def recall_per_rule(
    book: RuleBook, applies: NDArray[np.bool_], predicted: ArrayLike, gold: ArrayLike, min_pairs: int = 20
) -> dict[str, dict[str, Any]]:
    """Figures of a model per rule that applies to at least `min_pairs` pairs."""
    p, g = np.asarray(predicted, dtype=np.int64), np.asarray(gold, dtype=np.int64)
    out: dict[str, dict[str, Any]] = {}
    for column, rule in enumerate(book.rules):
        rows = np.flatnonzero(applies[:, column])
        if len(rows) < min_pairs:
            continue
        kept = [rule.effect.keeps(int(p[row])) for row in rows if rule.effect.keeps(int(g[row]))]
        out[rule.id] = {
            "num_pairs": len(rows),
            "accuracy": accuracy(p[rows], g[rows]),
            "recall": macro_recall(p[rows], g[rows]),
            "kept": float(np.mean(kept)) if kept else None,
        }
    return out
