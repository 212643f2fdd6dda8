"""What of a query stands in a document, term by term: the ground of rule-based explanations.

A term is a blank-separated piece of the query that names something. It is present where a spelling of it is
(`relevance.terms`), where a synonym is, or where it is a quantity the document gives in another unit (1 ft for 12 in.).
Terms weigh by how few texts of the file have them. In a long question those of its first sentence and those it repeats
weigh double, and small talk next to nothing.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from relevance.terms import Words, is_content, keys, terms
from training.rules.text import TextFeatures, lexicon, quantities

NEGATIONS = frozenset({"without", "no", "not", "non"})
_ASKING = """
define definition describe difference example explain info information kind list mean meaning name question type way
"""
_TALK = """
almost already although always anyway asking bad best better big certain concerned didn doesn dont even far feel feeling
fine general going gone good great guess happy hate health hear heard husband im including instead involved keep kept
later learn leave left little live long lot maybe medical mother nothing number ok okay old otherwise particular people
person plz possibly problem really recent reason regarding related reply said saw search see seem sir sometimes son soon
still stop struggle suitable sure thing think though thought today told took tried trying understand usually way wife
wonder wondering worried
"""
ASKING = frozenset(_ASKING.split())
"""Keys that say what form the answer takes: a document that has the answer need not have them."""
TALK = frozenset(_TALK.split())
"""Keys of small talk, in long questions only: in a short query they name something (big, health, medical)."""
LONG_QUERY_TERMS = 12
ASKING_WEIGHT = 0.3
_SENTENCE_END = re.compile(r"[.?!]")


@cache
def _synonyms() -> dict[str, tuple[str, ...]]:
    groups = [[" ".join(keys(entry)) for entry in group] for group in lexicon()["synonyms"]]
    return {entry: tuple(other for other in group if other != entry) for group in groups for entry in group}


class TermWeights:
    """Weight of a term: log of how many times rarer it is than a term that every text has, plus 1."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Count in how many of `texts` each key stands."""
        self._count: Counter[str] = Counter()
        self._num_texts = 0
        for text in texts:
            self._num_texts += 1
            self._count.update(set(keys(text)))

    def __getitem__(self, term: str) -> float:
        """The weight of the rarest key of `term`, at least 1."""
        fewest = min((self._count[key] for key in keys(term)), default=self._num_texts)
        return 1.0 + math.log((self._num_texts + 1) / (fewest + 1))


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a query against one document."""

    text: str
    weight: float
    is_present: bool
    is_hard: bool
    """A number, a model or a brand: nothing else stands for it."""
    is_head: bool
    """What the query asks for, as far as its form tells."""
    is_negated: bool
    """The query asks for something without it."""
    is_asking: bool
    """It says what form the answer takes."""


@dataclass(frozen=True, slots=True)
class QueryTerms:
    """A query's terms before any document is looked at; the documents of a query share it."""

    terms: tuple[Term, ...]
    quantities: tuple[frozenset[tuple[str, float]], ...]
    """Of each term: (dimension, value) of the quantity it is the number of."""
    all: tuple[str, ...]
    """Stop words included."""

    @classmethod
    def of(cls, query: str, weights: TermWeights) -> "QueryTerms":
        """The terms of `query`, each once, in order."""
        features = TextFeatures.of(query)
        brands = {word for phrase in features.listed("brands") for word in phrase}
        pieces = terms(query)
        counts = Counter(tuple(keys(piece)) for piece in pieces if is_content(piece))
        is_long = len(counts) > LONG_QUERY_TERMS
        opening = set(keys(_SENTENCE_END.split(query.strip(), 1)[0])) if is_long else set()
        found: dict[tuple[str, ...], Term] = {}
        quantity: list[frozenset[tuple[str, float]]] = []
        for index, piece in enumerate(pieces):
            key = tuple(keys(piece))
            if key in found or key not in counts:
                continue
            is_asking = (ASKING | TALK if is_long else ASKING).issuperset(key)
            is_subject = is_long and (counts[key] > 1 or opening.issuperset(key))
            own = {(d, v) for d, v, _, _ in quantities(" ".join(pieces[index : index + 2])) if piece[0].isdigit()}
            quantity.append(frozenset(own))
            found[key] = Term(
                text=piece,
                weight=ASKING_WEIGHT if is_asking else weights[piece] * (2.0 if is_subject else 1.0),
                is_present=False,
                is_hard=any(c.isdigit() for c in piece) or bool(brands.intersection(key)),
                is_head=features.head is not None and features.head in key,
                is_negated=bool(features.negated.intersection(key))
                or (index > 0 and pieces[index - 1].lower() in NEGATIONS),
                is_asking=is_asking,
            )
        return cls(tuple(found.values()), tuple(quantity), tuple(pieces))


@dataclass(frozen=True, slots=True)
class Match:
    """A query's terms with what a document has of them."""

    terms: tuple[Term, ...]
    words: Words

    @classmethod
    def of(cls, query: QueryTerms, document: str) -> "Match":
        """Look every term of `query` up in `document`."""
        words = Words.of(document)
        given = {(d, v) for d, v, _, _ in quantities(document)} if any(query.quantities) else set()
        found = []
        for term, quantity in zip(query.terms, query.quantities, strict=True):
            others = _synonyms().get(" ".join(keys(term.text)), ())
            is_present = (
                not words.lacks(term.text)
                or bool(quantity & given)
                or any(f" {other} " in words.keys_in_order for other in others)
            )
            found.append(replace(term, is_present=is_present))
        return cls(tuple(found), words)

    @property
    def share(self) -> float:
        """Weight of the terms present over the weight of all that are asked for; 0 where there are none."""
        asked = [term for term in self.terms if not term.is_negated]
        total = sum(term.weight for term in asked)
        return sum(term.weight for term in asked if term.is_present) / total if total else 0.0

    @property
    def has_head(self) -> bool:
        """Whether what the query asks for is named."""
        return any(term.is_present for term in self.terms if term.is_head)

    @property
    def contradicts(self) -> bool:
        """Whether the document names what the query asks to be without."""
        return any(term.is_present for term in self.terms if term.is_negated)
