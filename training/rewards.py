"""Rewards of an answer, segment by segment: strict, computed from the texts, between 0 and 1.

    segment      rewarded for                                                        None where
    grade        the gold grade: exact, ordinal or TFRank's mix of both
    wants        the words of the query's need (F1)
    exactness .. each of the four criteria: 1 - |said - gold| / 3                    no gold criteria
    context
    evidence     the share of quotes that stand in the document; no quote: 0         no quote in gold either, or no gold
    missing      the terms said to be missing that are, against gold's (F1)          no gold and none said
    verdict      saying the grade of the first token
    end          the whole answer being in the format, and not too long

None: there is nothing to judge. A step that is there but cannot be read earns 0; a step that is not there at all is
None too, and the answer's `end` pays for it. Nothing here samples, learns or asks a model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relevance.errors import ExplanationError
from relevance.explanation import (
    CRITERIA,
    END,
    MAX_MISSING,
    MAX_QUOTE_WORDS,
    NOTHING,
    STEPS,
    Explanation,
    check,
    parse,
    steps,
    verdict_name,
)
from relevance.grades import GradeScale
from relevance.terms import Words, words

SEGMENTS = ("grade", *STEPS, "end")
GradeReward = Literal["exact", "ordinal", "tfrank"]
# TFRank (arXiv 2508.09539) divides by 4, the distance at which half of its reward is gone.
TFRANK_RANGE = 4.0


def grade_exact(grade: int | None, gold: int) -> float:
    """1 for the gold grade, else 0; None is an answer that starts with no grade."""
    return 1.0 if grade == gold else 0.0


def grade_ordinal(grade: int | None, gold: int, num_grades: int) -> float:
    """1 - |grade - gold| / K: never 0 for a grade, so that a group of near misses still differs from no answer."""
    return 0.0 if grade is None else 1.0 - abs(grade - gold) / num_grades


def grade_tfrank(grade: int | None, gold: int) -> float:
    """Half for the exact grade, half falling with the distance: (exact + max(0, 1 - |grade - gold| / 4)) / 2."""
    if grade is None:
        return 0.0
    return (grade_exact(grade, gold) + max(0.0, 1.0 - abs(grade - gold) / TFRANK_RANGE)) / 2.0


def grade_reward(kind: GradeReward, grade: int | None, gold: int, num_grades: int) -> float:
    """The grade's reward of one `kind`."""
    if kind == "exact":
        return grade_exact(grade, gold)
    return grade_ordinal(grade, gold, num_grades) if kind == "ordinal" else grade_tfrank(grade, gold)


def criterion_grade(said: int, gold: int) -> float:
    """1 - |said - gold| / 3 for criterion grades 0 to 3."""
    return 1.0 - abs(said - gold) / 3.0


def word_f1(said: str, gold: str) -> float:
    """F1 over the distinct words of two texts; 1 if both are empty."""
    return set_f1(set(words(said)), set(words(gold)))


def set_f1(said: set[str], gold: set[str]) -> float:
    """2 |said and gold| / (|said| + |gold|); 1 if both are empty."""
    total = len(said) + len(gold)
    return 2.0 * len(said & gold) / total if total else 1.0


def evidence_grounded(quotes: Sequence[str], document: str, gold: Sequence[str] | None) -> float | None:
    """Share of `quotes` that stand in the document at a length the format allows."""
    if not quotes:
        return 0.0 if gold else None
    found = Words.of(document)
    return sum(found.has_quote(q) and len(words(q)) <= MAX_QUOTE_WORDS for q in quotes) / len(quotes)


def missing_terms(said: Sequence[str], query: str, document: str, gold: Sequence[str] | None) -> float | None:
    """F1 of the terms said to be missing against gold's, a term that is not really missing counting as wrong.

    Without gold: the share of terms that are in the query and not in the document.
    """
    blank = Explanation("", 0, 0, 0, 0, (), tuple(said)[:MAX_MISSING], 0)
    wrong = len([v for v in check(blank, query, document, 0) if v.step == "missing"])
    wrong += len(said) - min(len(said), MAX_MISSING)
    if gold is None:
        return (len(said) - wrong) / len(said) if said else None
    true = {word for term in said if Words.of(document).lacks(term) for word in words(term)}
    wanted = {word for term in gold for word in words(term)}
    total = len(true) + wrong + len(wanted)
    return 2.0 * len(true & wanted) / total if total else 1.0


def verdict_consistent(verdict: int, grade: int | None) -> float:
    """1 if the verdict is the grade of the first token."""
    return 1.0 if verdict == grade else 0.0


def length_reward(num_tokens: int, free_tokens: int, max_tokens: int) -> float:
    """1 up to `free_tokens`, falling linearly to 0 at `max_tokens`."""
    if num_tokens <= free_tokens:
        return 1.0
    return max(0.0, (max_tokens - num_tokens) / (max_tokens - free_tokens)) if max_tokens > free_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer is judged against."""

    query: str
    document: str
    grade: int
    explanation: Explanation | None = None
    """Gold; None: only what the texts themselves show is rewarded."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as decoded: the grade of its first token and the text behind it."""

    grade: int | None
    text: str
    ended: bool
    """Whether the model stopped by itself."""
    num_tokens: int


@dataclass(frozen=True, slots=True)
class RewardRules:
    """The choices the rewards leave open."""

    grade: GradeReward = "exact"
    free_tokens: int = 192
    """Answers up to this length are not punished for it."""
    max_tokens: int = 256


def read_step(name: str, text: str, scale: GradeScale) -> Explanation | None:
    """An explanation whose step `name` is that of `text` and whose other steps are blank; None if it is unreadable."""
    blank = {
        "wants": NOTHING,
        **dict.fromkeys(CRITERIA, "0"),
        "evidence": NOTHING,
        "missing": NOTHING,
        "verdict": verdict_name(scale, 0),
    }
    parts = [text if step == name else f"{step}: {blank[step]} {END}" for step in STEPS]
    try:
        return parse(" ".join(parts), scale)
    except ExplanationError:
        return None


def step_reward(name: str, said: Explanation, answer_grade: int | None, judged: Judged) -> float | None:
    """The reward of one readable step."""
    gold = judged.explanation
    if name == "wants":
        return word_f1(said.wants, judged.query if gold is None else gold.wants)
    if name == "evidence":
        return evidence_grounded(said.evidence, judged.document, None if gold is None else gold.evidence)
    if name == "missing":
        return missing_terms(said.missing, judged.query, judged.document, None if gold is None else gold.missing)
    if name == "verdict":
        return verdict_consistent(said.verdict, answer_grade)
    index = CRITERIA.index(name)
    return None if gold is None else criterion_grade(said.criteria[index], gold.criteria[index])


def segment_rewards(answer: Answer, judged: Judged, scale: GradeScale, rules: RewardRules) -> dict[str, float | None]:
    """The reward of every segment of `SEGMENTS`."""
    found: dict[str, float | None] = dict.fromkeys(SEGMENTS)
    found["grade"] = grade_reward(rules.grade, answer.grade, judged.grade, scale.num_grades)
    for name, start, end in steps(answer.text):
        said = read_step(name, answer.text[start:end], scale)
        found[name] = 0.0 if said is None else step_reward(name, said, answer.grade, judged)
    readable = answer.grade is not None and answer.ended and _is_readable(answer.text, scale)
    found["end"] = length_reward(answer.num_tokens, rules.free_tokens, rules.max_tokens) if readable else 0.0
    return found


def _is_readable(text: str, scale: GradeScale) -> bool:
    try:
        parse(text, scale)
    except ExplanationError:
        return False
    return True
