"""What a rule can ask of a (query, document) pair: named, checkable, cheap.

A predicate is a function of the two texts' features; a rule joins predicates by "all of" and "none of"
(`training.rules.book`). A predicate guesses a fact by plain means: brands come from a word list, and the thing
asked for is the last content word. `python -m training.rules` shows how often each rule applies and what gold says
there.
"""

from collections.abc import Callable

from training.rules.text import TextFeatures, kinds_listed, lexicon, stem

Predicate = Callable[[TextFeatures, TextFeatures], bool]

_NO_UNIT = "count 1"
_KINDS_OF_ANSWER = {
    "how many": ("number",),
    "how much": ("number",),
    "how long": ("number",),
    "how old": ("number",),
    "average": ("number",),
    "cost": ("number",),
    "when": ("number",),
    "what is": ("definition",),
    "what are": ("definition",),
    "define": ("definition",),
    "definition": ("definition",),
    "meaning": ("definition",),
    "why": ("cause",),
    "cause": ("cause",),
}
_SIGNS = {
    "definition": (
        ("is", "a"),
        ("is", "an"),
        ("is", "the"),
        ("are",),
        ("defined", "as"),
        ("mean",),
        ("refer", "to"),
        ("known", "as"),
    ),
    "cause": (("because",), ("due", "to"), ("caused", "by"), ("cause",), ("reason",), ("result", "of"), ("lead", "to")),
}


def _shared(query: TextFeatures, document: TextFeatures) -> float:
    """Share of the query's content words that the document has; 1 for a query without any."""
    if not query.content:
        return 1.0
    return sum(document.mentions(word) for word in query.content) / len(query.content)


def _differs(kind: str) -> Predicate:
    """Both texts have entries of a word list, and none that means the same."""

    def predicate(query: TextFeatures, document: TextFeatures) -> bool:
        wanted, offered = kinds_listed(query, kind), kinds_listed(document, kind)
        return bool(wanted) and bool(offered) and not wanted & offered

    return predicate


def _by_dimension(features: TextFeatures) -> dict[str, set[float]]:
    grouped: dict[str, set[float]] = {}
    for dimension, value in features.quantities:
        grouped.setdefault(dimension, set()).add(value)
    return grouped


def _quantity_differs(query: TextFeatures, document: TextFeatures) -> bool:
    """A measure with a unit that the document gives too, with another value."""
    offered = _by_dimension(document)
    return any(
        dimension != "count" and dimension in offered and not values & offered[dimension]
        for dimension, values in _by_dimension(query).items()
    )


def _unit_differs(query: TextFeatures, document: TextFeatures) -> bool:
    """A number of the query stands in the document with another unit, and with no other."""
    offered: dict[float, set[str]] = {}
    for unit, number in document.numbers:
        offered.setdefault(number, set()).add(unit)
    return any(
        unit != _NO_UNIT and number in offered and not offered[number] & {unit, _NO_UNIT}
        for unit, number in query.numbers
    )


def _numbers_met(query: TextFeatures, document: TextFeatures) -> bool:
    """There are quantities with a unit, and the document has them all."""
    wanted = {q for q in query.quantities if q[0] != "count"}
    return bool(wanted) and wanted <= document.quantities


def _number_missing(query: TextFeatures, document: TextFeatures) -> bool:
    """The query has a number that the document has not, whatever the unit."""
    offered = {number for _, number in document.numbers} | {value for _, value in document.quantities}
    return any(number not in offered for _, number in query.numbers)


def _negation_broken(query: TextFeatures, document: TextFeatures) -> bool:
    """The query excludes something ("without lid") that the document has."""
    return any(word in document.words and word not in document.negated for word in query.negated)


def _negation_added(query: TextFeatures, document: TextFeatures) -> bool:
    """The document excludes a thing that the query asks for."""
    return any(word in query.content and word not in query.negated for word in document.negated)


def _opposite(query: TextFeatures, document: TextFeatures) -> bool:
    """Cordless asked for, corded offered, and the like."""
    for left, right in lexicon()["opposites"]:
        for asked, offered in ((stem(left), stem(right)), (stem(right), stem(left))):
            wanted = asked in query.words and offered not in query.words
            if wanted and offered in document.words and asked not in document.words:
                return True
    return False


def _extra(kind: str) -> Predicate:
    """The document is about the thing asked for, and names a belonging of it that the query does not."""

    def predicate(query: TextFeatures, document: TextFeatures) -> bool:
        if query.head is None or not document.mentions(query.head):
            return False
        return bool(document.listed(kind) - query.listed(kind)) and not query.listed(kind)

    return predicate


def _for_the_thing(query: TextFeatures, document: TextFeatures) -> bool:
    """The thing asked for stands behind "for", "compatible with" or "fits" in the document."""
    if query.head is None or query.head not in document.words or "for" in query.words:
        return False
    index = document.words.index(query.head)
    return any(marker in document.words[max(0, index - 6) : index] for marker in ("for", "compatible", "fit"))


def _model_differs(query: TextFeatures, document: TextFeatures) -> bool:
    """A model number is asked for, and the document has others only."""
    return bool(query.models) and bool(document.models) and not query.models & document.models


def _answer_kinds(query: TextFeatures) -> tuple[str, ...]:
    text = " ".join(query.words)
    return next((kinds for words, kinds in _KINDS_OF_ANSWER.items() if words in text), ())


def _has_kind(kind: str, document: TextFeatures) -> bool:
    return bool(document.quantities) if kind == "number" else any(document.has(sign) for sign in _SIGNS[kind])


def _answer_kind_missing(query: TextFeatures, document: TextFeatures) -> bool:
    """A question for a number, a definition or a cause, and nothing of that kind in the document."""
    kinds = _answer_kinds(query)
    return bool(kinds) and not any(_has_kind(kind, document) for kind in kinds)


def _answer_kind_met(query: TextFeatures, document: TextFeatures) -> bool:
    kinds = _answer_kinds(query)
    return bool(kinds) and all(_has_kind(kind, document) for kind in kinds)


def _one_edit(left: str, right: str) -> bool:
    """Whether one insertion, deletion, substitution or swap of neighbours makes the words equal."""
    if abs(len(left) - len(right)) > 1 or left == right:
        return False
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    a, b = left[start:], right[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _misspelt(query: TextFeatures, document: TextFeatures) -> bool:
    """A query word is not in the document, but a word one letter away is."""
    long = [w for w in query.content if len(w) >= 5 and w.isalpha() and not document.mentions(w)]
    return any(_one_edit(w, other) for w in long for other in document.content if other[:1] == w[:1])


def _synonym(query: TextFeatures, document: TextFeatures) -> bool:
    """A query word is in the document by a synonym only."""
    return any(word not in document.words and document.mentions(word) for word in query.content)


def _exact_title(query: TextFeatures, document: TextFeatures) -> bool:
    """The document has the query's words, at least two, one after the other."""
    return len(query.words) >= 2 and document.has(query.words)


def _is_health(query: TextFeatures, document: TextFeatures) -> bool:
    """The query has a word of the health list, and two or more are in the pair."""
    asked = query.listed("health")
    return bool(asked) and len(asked | document.listed("health")) >= 2


def _is_shop(query: TextFeatures, document: TextFeatures) -> bool:
    """A short query that is no question, and a document as short as a title."""
    return query.question is None and len(query.words) <= 12 and len(document.words) <= 30


PREDICATES: dict[str, Predicate] = {
    "is_shop": _is_shop,
    "is_question": lambda query, _: query.question is not None,
    "is_passage": lambda _, document: len(document.words) > 30,
    "is_health": _is_health,
    "one_word_query": lambda query, _: len(query.content) == 1,
    "long_query": lambda query, _: len(query.content) >= 5,
    "short_document": lambda _, document: len(document.content) <= 3,
    "long_document": lambda _, document: len(document.words) >= 120,
    "nothing_shared": lambda query, document: bool(query.content) and _shared(query, document) == 0.0,
    "half_shared": lambda query, document: _shared(query, document) >= 0.5,
    "all_shared": lambda query, document: _shared(query, document) == 1.0,
    "exact_title": _exact_title,
    "head_missing": lambda query, document: query.head is not None and not document.mentions(query.head),
    "quantity_differs": _quantity_differs,
    "unit_differs": _unit_differs,
    "numbers_met": _numbers_met,
    "number_missing": _number_missing,
    "brand_differs": _differs("brands"),
    "brand_met": lambda query, document: (
        bool(query.listed("brands")) and query.listed("brands") <= document.listed("brands")
    ),
    "colour_differs": _differs("colours"),
    "material_differs": _differs("materials"),
    "size_differs": _differs("sizes"),
    "model_differs": _model_differs,
    "model_met": lambda query, document: bool(query.models) and query.models <= document.models,
    "negation_broken": _negation_broken,
    "negation_added": _negation_added,
    "opposite": _opposite,
    "accessory": _extra("accessories"),
    "part": _extra("parts"),
    "for_the_thing": _for_the_thing,
    "answer_kind_missing": _answer_kind_missing,
    "answer_kind_met": _answer_kind_met,
    "misspelt": _misspelt,
    "synonym": _synonym,
}
