"""The explanation after the grade: eight fixed steps, written by a model, read by everybody.

    answer       <grade token> <explanation>
    explanation  wants: usb c cable 2 m | exactness: 2 | coverage: 2 | topicality: 3 | context: 3 |
                 evidence: < USB-C to USB-C cable > < 60 W > | missing: 2 | verdict: highly relevant |

One line, every step closed by `|`, so the text of a step ends where it says so and a truncated explanation shows as
one. A list that is empty reads `none`. The marks `|`, `<`, `>` and `;` occur nowhere else: texts of users have others
in their place, so no document can close a step or forge a verdict. All marks and keywords are plain ASCII, and
reading ignores case and blanks around marks: what a byte-level BPE and what a lower-casing WordPiece vocabulary gives
back reads the same.

    Explanation --render--> text --parse--> the same Explanation      (texts are cleaned when one is made)
    check: what it says against the pair: quotes are in the document, missing terms are missing, verdict = grade
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from relevance.errors import ExplanationError
from relevance.grades import GradeScale
from relevance.terms import Words, clean, words

CRITERIA = ("exactness", "coverage", "topicality", "context")
STEPS = ("wants", *CRITERIA, "evidence", "missing", "verdict")
NUM_CRITERION_GRADES = 4
MAX_QUOTES = 3
MAX_QUOTE_WORDS = 24
"""Punctuation marks count as words."""
MAX_MISSING = 6
MAX_WANTS_WORDS = 40
END, QUOTE_START, QUOTE_END, BETWEEN, NOTHING = "|", "<", ">", ";", "none"

_QUOTE = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an explanation says. Texts are cleaned, empty and repeated entries dropped, when it is made.

    Raises:
        ExplanationError: a criterion grade or verdict out of range, too many quotes or missing terms.
    """

    wants: str
    """What the query asks for."""
    exactness: int
    """0 to 3: how precisely the document answers."""
    coverage: int
    """0 to 3: how much of the query it answers."""
    topicality: int
    """0 to 3: whether it is about the query's subject."""
    context: int
    """0 to 3: whether it gives what is needed around the answer (contextual fit)."""
    evidence: tuple[str, ...]
    """At most `MAX_QUOTES` verbatim quotes of the document."""
    missing: tuple[str, ...]
    """At most `MAX_MISSING` terms of the query that the document lacks."""
    verdict: int
    """Index of a grade."""

    def __post_init__(self) -> None:
        for name in CRITERIA:
            if getattr(self, name) not in range(NUM_CRITERION_GRADES):
                raise ExplanationError(name, f"must be 0 to {NUM_CRITERION_GRADES - 1}, got {getattr(self, name)!r}")
        if self.verdict < 0:
            raise ExplanationError("verdict", f"must be the index of a grade, got {self.verdict!r}")
        for name, most in (("evidence", MAX_QUOTES), ("missing", MAX_MISSING)):
            cleaned = dict.fromkeys(clean(text) for text in getattr(self, name))
            kept = tuple(text for text in cleaned if text and (name == "evidence" or text.lower() != NOTHING))
            if len(kept) > most:
                raise ExplanationError(name, f"at most {most}, got {len(kept)}")
            object.__setattr__(self, name, kept)
        object.__setattr__(self, "wants", clean(self.wants) or NOTHING)

    @property
    def criteria(self) -> tuple[int, int, int, int]:
        """The criterion grades in the order of `CRITERIA`."""
        return self.exactness, self.coverage, self.topicality, self.context

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; the verdict is the grade's index."""
        return {
            "wants": self.wants,
            **dict(zip(CRITERIA, self.criteria, strict=True)),
            "evidence": list(self.evidence),
            "missing": list(self.missing),
            "verdict": self.verdict,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote; ExplanationError names the step at fault."""
        if not isinstance(value, dict) or set(value) != set(STEPS):
            raise ExplanationError("explanation", f"must be an object with {', '.join(STEPS)}")
        for step in STEPS:
            found = value[step]
            if step in ("evidence", "missing"):
                if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
                    raise ExplanationError(step, "must be a list of texts")
            elif not isinstance(found, str if step == "wants" else int) or isinstance(found, bool):
                raise ExplanationError(step, f"must be {'a text' if step == 'wants' else 'an integer'}, got {found!r}")
        return cls(**{**value, "evidence": tuple(value["evidence"]), "missing": tuple(value["missing"])})


def render(explanation: Explanation, scale: GradeScale) -> str:
    """The one spelling of `explanation`; what follows the grade token, after a blank."""
    quotes = " ".join(f"{QUOTE_START} {quote} {QUOTE_END}" for quote in explanation.evidence)
    values = {
        "wants": explanation.wants,
        **{name: str(grade) for name, grade in zip(CRITERIA, explanation.criteria, strict=True)},
        "evidence": quotes or NOTHING,
        "missing": f" {BETWEEN} ".join(explanation.missing) or NOTHING,
        "verdict": verdict_name(scale, explanation.verdict),
    }
    return " ".join(f"{step}: {values[step]} {END}" for step in STEPS)


def verdict_name(scale: GradeScale, grade: int) -> str:
    """How the verdict spells a grade; ExplanationError if the scale has no such grade."""
    if not 0 <= grade < scale.num_grades:
        raise ExplanationError("verdict", f"must be 0 to {scale.num_grades - 1}, got {grade}")
    return clean(scale.names[grade])


class StepSpan(NamedTuple):
    """Where a step stands in a text: characters from `start` up to but not including `end`."""

    name: str
    start: int
    end: int


def steps(text: str) -> list[StepSpan]:
    """The steps of `text` as far as they are in order; a last one that is not closed ends with the text.

    A step starts at its keyword and ends behind its `|`. Text that is no step ends the list.
    """
    found: list[StepSpan] = []
    position = 0
    for name in STEPS:
        start = position + len(text) - position - len(text[position:].lstrip())
        if re.compile(rf"{name}\s*:", re.IGNORECASE).match(text, start) is None:
            break
        close = text.find(END, start)
        position = len(text) if close < 0 else close + 1
        found.append(StepSpan(name, start, position))
        if close < 0:
            break
    return found


def parse(text: str, scale: GradeScale) -> Explanation:
    """Read an explanation as a tokenizer of either kind gives it back.

    Raises:
        ExplanationError: names the first step that is missing, unfinished or not readable, and why.
    """
    spans = steps(text)
    values: dict[str, str] = {}
    for name, start, end in spans:
        if text[end - 1] != END:
            raise ExplanationError(name, "unfinished")
        values[name] = text[start : end - 1].partition(":")[2].strip()
    if len(spans) < len(STEPS):
        rest = text[spans[-1].end if spans else 0 :].strip()
        raise ExplanationError(STEPS[len(spans)], f"expected its keyword, found {rest[:40]!r}")
    if text[spans[-1].end :].strip():
        raise ExplanationError("verdict", f"followed by {text[spans[-1].end :].strip()[:40]!r}")
    read: dict[str, Any] = {name: read_value(name, value, scale) for name, value in values.items()}
    return Explanation(**read)


def read_value(step: str, value: str, scale: GradeScale) -> str | int | tuple[str, ...]:
    """What the text of one step's value says: `wants` a text, lists as tuples, the others numbers.

    Raises:
        ExplanationError: it is not readable; or no such step.
    """
    if step == "wants":
        return _parse_wants(value)
    if step in CRITERIA:
        return _parse_criterion(step, value)
    if step == "evidence":
        return _parse_evidence(value)
    if step == "missing":
        return _parse_missing(value)
    if step == "verdict":
        return _parse_verdict(value, scale)
    raise ExplanationError(step, "no such step")


def _parse_wants(value: str) -> str:
    if not value:
        raise ExplanationError("wants", "empty")
    return value


def _parse_criterion(name: str, value: str) -> int:
    if len(value) != 1 or value not in "0123":
        raise ExplanationError(name, f"must be 0 to {NUM_CRITERION_GRADES - 1}, got {value[:40]!r}")
    return int(value)


def _parse_evidence(value: str) -> tuple[str, ...]:
    if value.lower() == NOTHING:
        return ()
    quotes = _QUOTE.findall(value)
    if not quotes or _QUOTE.sub("", value).strip():
        raise ExplanationError("evidence", f"must be {NOTHING!r} or quotes between < and >, got {value[:40]!r}")
    if not all(quote.strip() for quote in quotes):
        raise ExplanationError("evidence", "a quote is empty")
    return tuple(quotes)


def _parse_missing(value: str) -> tuple[str, ...]:
    if value.lower() == NOTHING:
        return ()
    found = tuple(term.strip() for term in value.split(BETWEEN))
    if not all(found):
        raise ExplanationError("missing", f"must be {NOTHING!r} or terms between ';', got {value[:40]!r}")
    return found


def _parse_verdict(value: str, scale: GradeScale) -> int:
    found = words(value)
    for grade in range(scale.num_grades):
        if words(verdict_name(scale, grade)) == found:
            return grade
    raise ExplanationError("verdict", f"must be one of {', '.join(scale.names)}, got {value[:40]!r}")


def is_missing(term: str, query: Words, document: Words) -> bool:
    """Whether `term` is the query's and no spelling of it is in the document."""
    return query.has_keys(term) and document.lacks(term)


class Violation(NamedTuple):
    """Something an explanation says that does not hold."""

    step: str
    reason: str


def check(explanation: Explanation, query: str, document: str, grade: int) -> list[Violation]:
    """What `explanation` says of a pair that does not hold; empty if all does.

    evidence: a quote's words (`relevance.terms.words`) stand in the document one after the other.
    missing: a term is made of words of the query, and no spelling of it is in the document (`Words.lacks`).
    verdict: it is `grade`, that of the first token.
    And nothing is longer than the format allows.
    """
    found: list[Violation] = []
    if len(words(explanation.wants)) > MAX_WANTS_WORDS:
        found.append(Violation("wants", f"longer than {MAX_WANTS_WORDS} words"))
    in_document, in_query = Words.of(document), Words.of(query)
    for quote in explanation.evidence:
        if len(words(quote)) > MAX_QUOTE_WORDS:
            found.append(Violation("evidence", f"{quote[:40]!r}... is longer than {MAX_QUOTE_WORDS} words"))
        if not in_document.has_quote(quote):
            found.append(Violation("evidence", f"{quote!r} is not in the document"))
    for term in explanation.missing:
        if not is_missing(term, in_query, in_document):
            where = "in the document" if in_query.has_keys(term) else "not in the query"
            found.append(Violation("missing", f"{term!r} is {where}"))
    if explanation.verdict != grade:
        found.append(Violation("verdict", f"says grade {explanation.verdict}, the first token says {grade}"))
    return found
