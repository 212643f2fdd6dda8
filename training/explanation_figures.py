"""How good explanations are, from their texts alone.

    parsed            share that reads as an explanation
    verdict_is_grade  share whose verdict is the first token's grade
    holds             share in which everything holds (relevance.explanation.check)
    quotes_found      share of the quotes that stand in the document
    terms_missing     share of the terms named missing that are the query's and missing indeed
    criteria_kappa    quadratic kappa of each criterion with a judge's, where there is one
    failed_steps      how often each step was the first that could not be read

What cannot be read counts against the first three and is left out of the others. A share of nothing is null.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relevance.errors import ExplanationError
from relevance.explanation import CRITERIA, NUM_CRITERION_GRADES, Explanation, check, is_missing, parse
from relevance.grades import GradeScale
from relevance.metrics import quadratic_weighted_kappa
from relevance.terms import Words


@dataclass(frozen=True, slots=True)
class Explained:
    """The text of an explanation with the pair and the grade it explains."""

    query: str
    document: str
    grade: int
    """What the first token said."""
    text: str
    num_tokens: int
    judged: tuple[int, ...] | None = None
    """A judge's grades of the criteria, in their order."""


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def measure_explanations(explained: Sequence[Explained], scale: GradeScale) -> dict[str, Any]:
    """The figures of at least one explanation."""
    found: list[tuple[Explained, Explanation]] = []
    failed: Counter[str] = Counter()
    for one in explained:
        try:
            found.append((one, parse(one.text, scale)))
        except ExplanationError as error:
            failed[error.step] += 1
    holding = [not check(said, one.query, one.document, one.grade) for one, said in found]
    return {
        "num_pairs": len(explained),
        "parsed": len(found) / len(explained),
        "verdict_is_grade": sum(said.verdict == one.grade for one, said in found) / len(explained),
        "holds": sum(holding) / len(explained),
        "with_evidence": _share(sum(bool(said.evidence) for _, said in found), len(found)),
        "quotes_found": _share(*_count_holding(found, "evidence")),
        "terms_missing": _share(*_count_holding(found, "missing")),
        "mean_tokens": sum(one.num_tokens for one in explained) / len(explained),
        "criteria_kappa": _criteria_kappa(found),
        "failed_steps": dict(sorted(failed.items())),
    }


def _count_holding(found: Sequence[tuple[Explained, Explanation]], step: str) -> tuple[int, int]:
    """How many entries of a list step hold, and how many there are."""
    outcomes: list[bool] = []
    for one, said in found:
        document = Words.of(one.document)
        if step == "evidence":
            outcomes += [document.has_quote(quote) for quote in said.evidence]
        else:
            outcomes += [is_missing(term, Words.of(one.query), document) for term in said.missing]
    return sum(outcomes), len(outcomes)


def _criteria_kappa(found: Sequence[tuple[Explained, Explanation]]) -> dict[str, float] | None:
    judged = [(one.judged, said.criteria) for one, said in found if one.judged is not None]
    if not judged:
        return None
    return {
        name: quadratic_weighted_kappa(
            [said[i] for _, said in judged], [gold[i] for gold, _ in judged], NUM_CRITERION_GRADES
        )
        for i, name in enumerate(CRITERIA)
    }
