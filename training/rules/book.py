"""The rule book: what makes a document relevant, one rule at a time, as data.

A rule has a statement for readers and models, a condition over (query, document) that says where it applies, and its
effect on the grade: at most k, or at least k. A condition is names of `training.rules.predicates`: all of these, none
of those; a rule without one is only stated. Examples are checked when a book is read: the rule must apply to each and
the grade must keep its effect.

A book is never edited in place: an edit makes the next version, which names its parent's content hash and says of each
rule which round made it. `RuleBook.preset()` is the book of this repository, `rule_book.json`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relevance.spec import describe
from training.rules.predicates import PREDICATES
from training.rules.text import TextFeatures

RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,48}$")]
Domain = Literal["any", "shop", "web", "health"]


class RuleBookError(ValueError):
    """A rule book that cannot be used; the message names file and rule."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Strict):
    """Where a rule applies: every predicate of `all_of` holds and none of `none_of`."""

    all_of: tuple[str, ...] = Field(min_length=1)
    none_of: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in (*self.all_of, *self.none_of):
            if name not in PREDICATES:
                raise ValueError(f"no predicate named {name!r}; there are {', '.join(sorted(PREDICATES))}")
        return self

    def holds(self, query: TextFeatures, document: TextFeatures) -> bool:
        """Whether a pair meets the condition."""
        return all(PREDICATES[name](query, document) for name in self.all_of) and not any(
            PREDICATES[name](query, document) for name in self.none_of
        )


class Effect(_Strict):
    """What a rule says of the grade: exactly one of the bounds."""

    at_most: int | None = Field(default=None, ge=0)
    at_least: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("effect must have exactly one of at_most and at_least")
        return self

    def keeps(self, grade: int) -> bool:
        """Whether a grade is within the bound."""
        return grade <= self.at_most if self.at_most is not None else grade >= (self.at_least or 0)


class RuleExample(_Strict):
    """A pair to which a rule applies, with its grade."""

    query: str = Field(min_length=1)
    document: str = Field(min_length=1)
    grade: int = Field(ge=0)


class Origin(_Strict):
    """Who made a rule, in which round of evolution (0: before any), and out of which rule."""

    made_by: str = Field(min_length=1)
    made_in_round: int = Field(default=0, ge=0)
    made_from: RuleId | None = None


class Rule(_Strict):
    """One rule of relevance."""

    id: RuleId
    domain: Domain
    statement: str = Field(min_length=8, max_length=240)
    applies: Condition | None = None
    effect: Effect
    examples: tuple[RuleExample, ...] = ()
    origin: Origin

    @model_validator(mode="after")
    def _check_examples(self) -> Self:
        for number, example in enumerate(self.examples, start=1):
            if not self.applies_to(example.query, example.document):
                raise ValueError(f"example {number} does not meet the rule's condition: {example.query!r}")
            if not self.effect.keeps(example.grade):
                raise ValueError(f"example {number} has grade {example.grade}, against the rule's own effect")
        return self

    def applies_to(self, query: str, document: str) -> bool:
        """Whether a pair meets the condition; every pair does where there is none."""
        return self.applies is None or self.applies.holds(TextFeatures.of(query), TextFeatures.of(document))


class RuleBook(_Strict):
    """A version of the rules."""

    name: str = Field(min_length=1)
    version: int = Field(ge=1)
    parent: str | None = None
    """Content hash of the version this one was made of."""
    num_grades: int = Field(ge=2)
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        seen: dict[str, str] = {}
        for rule in self.rules:
            for what, value in (("id", rule.id), ("statement", rule.statement.casefold())):
                if value in seen:
                    raise ValueError(f"rule {rule.id!r}: its {what} is that of rule {seen[value]!r}")
                seen[value] = rule.id
            bounds = [rule.effect.at_most, rule.effect.at_least, *(e.grade for e in rule.examples)]
            if max(b for b in bounds if b is not None) >= self.num_grades:
                raise ValueError(f"rule {rule.id!r}: grades go from 0 to {self.num_grades - 1}")
        return self

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read and check a book.

        Raises:
            RuleBookError: no file, not JSON, or a rule at fault, which is named.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RuleBookError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise RuleBookError(f"{path}: not JSON: {error}") from error
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise RuleBookError(f"{path}: {_named(error, raw)}") from error

    @classmethod
    def preset(cls) -> Self:
        """The book of this repository."""
        with resources.as_file(resources.files("training.rules") / "rule_book.json") as path:
            return cls.from_file(path)

    def to_file(self, path: Path) -> None:
        """Write the book as indented JSON, whole or not at all."""
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(self.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
        temporary.replace(path)

    @property
    def content_hash(self) -> str:
        """Twelve hexadecimal digits that identify the content."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=6).hexdigest()

    def rule(self, rule_id: str) -> Rule:
        """The rule of that id; RuleBookError if there is none."""
        for rule in self.rules:
            if rule.id == rule_id:
                return rule
        raise RuleBookError(f"{self.name}: no rule {rule_id!r}")

    def rules_of(self, query: str, document: str) -> tuple[str, ...]:
        """Ids of the rules that have a condition and apply to a pair, in the book's order."""
        features = TextFeatures.of(query), TextFeatures.of(document)
        return tuple(r.id for r in self.rules if r.applies is not None and r.applies.holds(*features))

    def next_version(self, edits: Sequence[Rule]) -> Self:
        """The book with each edited rule in place of the rule of its id, or behind the others if it is new.

        Raises:
            RuleBookError: the edited book is not consistent.
        """
        by_id = {rule.id: rule for rule in self.rules} | {rule.id: rule for rule in edits}
        try:
            return type(self)(
                name=self.name,
                version=self.version + 1,
                parent=self.content_hash,
                num_grades=self.num_grades,
                rules=tuple(by_id.values()),
            )
        except ValidationError as error:
            raise RuleBookError(f"{self.name}: {describe(error)}") from error

    def instruction(self, domains: Sequence[Domain], fits: Callable[[str], bool]) -> str:
        """The instruction a model is given: as many whole statements of `domains`, in order, as `fits` allows.

        Raises:
            RuleBookError: not even one statement fits.
        """
        text = ""
        for rule in self.rules:
            longer = f"{text} {rule.statement}".strip()
            if rule.domain in (*domains, "any") and fits(longer):
                text = longer
        if not text:
            raise RuleBookError(
                f"{self.name}: no statement for {', '.join(domains)} fits the model's instruction limit"
            )
        return text


def _named(error: ValidationError, raw: object) -> str:
    """A pydantic error with the index of a rule replaced by its id."""
    parts = []
    for one in error.errors():
        location = list(one["loc"])
        where = ".".join(str(part) for part in location) or "book"
        if len(location) > 1 and location[0] == "rules" and isinstance(raw, dict):
            entry = raw["rules"][location[1]]
            rule_id = entry.get("id", location[1]) if isinstance(entry, dict) else location[1]
            where = f"rule {rule_id!r}" + "".join(f".{part}" for part in location[2:])
        parts.append(f"{where}: {one['msg']}")
    return "; ".join(parts)


@cache
def _preset() -> RuleBook:
    return RuleBook.preset()


def rules_of(query: str, document: str) -> tuple[str, ...]:
    """Ids of the preset book's rules that apply to a pair."""
    return _preset().rules_of(query, document)
