"""Explanations by rule: what a judge who gave this grade could have pointed at.

    criterion   round(base + slope * share + step[grade]), 0 to 3
                share: weight of the query's terms that the document has. Base, slope and steps are a least-squares fit
                to the judged criteria of trecdl/train, spread to their variance and rounded to tenths, with a higher
                step for the top grade, which has at least 2 everywhere. Below it a number, model or brand that is
                missing costs exactness one, and what the query wants to be without holds exactness and context at 1.
    evidence    the passages that hold the terms; with a grade but no common word, the document's first words
    missing     terms the document lacks, the weightiest: as many as the grade leaves room for, none at the top
    wants       the query's terms in order without its small talk

A row that carries judged `criteria` keeps them. Nothing is learned from the row: its grade is given.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

from relevance.explanation import NUM_CRITERION_GRADES, Explanation
from relevance.terms import STOP_WORDS, UNITS, keys
from training.evidence import EvidenceFinder, asks_for_number
from training.matching import NEGATIONS, Match, QueryTerms, Term, TermWeights

# Criterion: base, slope, and a step for each level of relevance from none to full.
_CRITERIA = {
    "exactness": (-0.4, 1.9, (0.0, 1.2, 1.9, 2.2)),
    "coverage": (-0.5, 2.5, (0.0, 1.3, 1.8, 2.1)),
    "topicality": (-0.2, 2.8, (0.0, 1.5, 1.8, 2.1)),
    "context": (-0.3, 2.2, (0.0, 1.4, 1.8, 2.1)),
}
TOP_LEVEL = 3
_MAX_QUOTES = (1, 2, 3, 3)
_MIN_SHARE_OF_IRRELEVANT = 0.3
_MAX_MISSING = (4, 3, 2, 0)
_MAX_WANTS_TERMS = 10
_KEPT_QUESTION_WORDS = frozenset({"how", "when", "where", "which", "who", "why"}) | NEGATIONS


class Annotator:
    """Writes explanations of graded pairs."""

    def __init__(self, weights: TermWeights, num_grades: int) -> None:
        self._num_grades = num_grades
        self._terms_of = lru_cache(maxsize=4096)(lambda query: QueryTerms.of(query, weights))

    def annotate(self, query: str, document: str, grade: int, criteria: Mapping[str, int] | None = None) -> Explanation:
        """The explanation of one pair with its gold grade, and judged criteria where there are any."""
        asked: QueryTerms = self._terms_of(query)
        match = Match.of(asked, document)
        level = round(TOP_LEVEL * grade / (self._num_grades - 1))
        return Explanation(
            wants=choose_wants(asked),
            **(derive_criteria(match, level) if criteria is None else criteria),
            evidence=tuple(choose_evidence(match, query, document, level)),
            missing=tuple(choose_missing(match, level)),
            verdict=grade,
        )


def derive_criteria(match: Match, level: int) -> dict[str, int]:
    """The four criterion grades, 0 to 3, from what matches and the level of relevance, 0 to 3."""
    found: dict[str, int] = {}
    for name, (base, slope, steps) in _CRITERIA.items():
        value = round(base + slope * match.share + steps[level])
        found[name] = min(max(value, 0), NUM_CRITERION_GRADES - 1)
    if level < TOP_LEVEL:
        if any(term.is_hard and not term.is_present and not term.is_negated for term in match.terms):
            found["exactness"] = max(0, found["exactness"] - 1)
        if match.contradicts:
            found["exactness"], found["context"] = min(1, found["exactness"]), min(1, found["context"])
    return found


def choose_wants(asked: QueryTerms) -> str:
    """What the query asks for in its own words, in order."""
    names = {term.text: term.weight for term in asked.terms}
    if not names:
        return " ".join(asked.all[:_MAX_WANTS_TERMS])
    kept = set(sorted(names, key=lambda text: -names[text])[:_MAX_WANTS_TERMS])
    is_short = len(names) <= _MAX_WANTS_TERMS
    wanted: list[str] = []
    for before, term in pairwise(("", *asked.all)):
        is_unit_of_number = before[:1].isdigit() and UNITS.issuperset(keys(term))
        is_letter = len(term) == 1 and term.lower() not in STOP_WORDS
        if term in kept or is_unit_of_number or (is_short and (is_letter or term.lower() in _KEPT_QUESTION_WORDS)):
            wanted.append(term)
    return " ".join(dict.fromkeys(wanted))


def choose_evidence(match: Match, query: str, document: str, level: int) -> list[str]:
    """Quotes of the document; none where it is irrelevant and has little of what the query names."""
    if level == 0 and match.share < _MIN_SHARE_OF_IRRELEVANT:
        return []
    looked_for = [
        (tuple(keys(term.text)), term.weight) for term in match.terms if term.is_present and not term.is_asking
    ]
    finder = EvidenceFinder(document, looked_for, wants_number=asks_for_number(query))
    quotes = finder.quotes(_MAX_QUOTES[level])
    return quotes or ([] if level == 0 else finder.opening())


def choose_missing(match: Match, level: int) -> list[str]:
    """Terms of the query that the document lacks, in the query's order."""

    def urgency(term: Term) -> tuple[bool, bool, float]:
        return term.is_hard, term.is_head, term.weight

    lacking = [
        term
        for term in match.terms
        if not (term.is_present or term.is_negated or term.is_asking) and not UNITS.issuperset(keys(term.text))
    ]
    chosen = sorted(lacking, key=urgency, reverse=True)[: _MAX_MISSING[level]]
    return [term.text for term in lacking if term in chosen]
