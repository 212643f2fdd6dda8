"""Edits that bring a rule about: from a pair that matches to one in which a single thing is wrong.

    quantity, unit, brand, colour, material, size word, model number, opposite, "without", accessory, part,
    answer taken out, stranger; and two that keep the grade: synonym, misspelling

An edit changes the shorter side where it can: "box level" with "Husky 24 in. Box Level" becomes "36 in. box level".
Where something was put into the query, its twin says it rightly ("24 in. box level"), so that a model cannot learn
that longer queries are worse ones. An edit that does not fit a pair gives None; whether the rule
then applies is for the caller to check.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from training.rules.text import TextFeatures, lexicon, same_entry, stem

_GROUPS = (("twin", "full", "queen", "king"), ("mini", "small", "medium", "large", "extra large"))
_MEASURE = re.compile(
    r"(?<![\w./,-])(\d+(?:\.\d+)?)[ -]?(in|ft|gal|oz|lb|qt|v|volt|w|watt|amp|gb|tb|mm|cm|hp|btu|psi)(?![\w-])\.?", re.I
)
_OTHER_UNIT = {
    "in": "ft", "ft": "in", "gal": "qt", "qt": "gal", "oz": "lb", "lb": "oz", "gb": "tb", "tb": "gb", "mm": "cm",
    "cm": "mm", "v": "w", "volt": "watt", "w": "v", "watt": "volt",
}  # fmt: skip
_ACCESSORIES = (
    "Storage Bag for {}",
    "Protective Cover for {}",
    "Carrying Case for {}",
    "Mounting Bracket for {}",
    "Storage Rack for {}",
)
_BEDDING = {"bed", "bedding", "bedroom", "mattress", "futon", "sheet", "pillow", "headboard", "blanket", "comforter"}
_VAGUE = {"kit", "set", "part", "piece", "system", "accessory", "pack", "unit", "tool"}
_WITH = re.compile(r"\bwith ([a-z]+(?: [a-z]+)?)(?= and\b| in\b| for\b|,| \(|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Edited:
    """An edited pair, and its rightly said twin where there is one."""

    query: str
    document: str
    twin: str | None = None
    """A query that says of the same document what is so."""


@dataclass(slots=True)
class Corpus:
    """What edits draw from: all pairs of the sources, and which brands, materials and parts go with which thing."""

    pairs: Sequence[tuple[str, str]]
    seen: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Entries of a word list by (list, thing)."""

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> "Corpus":
        """Count over short documents that name the thing their query asks for."""
        corpus = cls(pairs)
        for query, document in pairs:
            features, offered = TextFeatures.of(query), TextFeatures.of(document)
            if features.head is None or len(offered.words) > 30 or not offered.mentions(features.head):
                continue
            for kind in ("brands", "materials", "parts"):
                corpus.seen[kind, features.head].update(" ".join(p) for p in offered.listed(kind))
        return corpus

    def usual(self, kind: str, query: str, min_count: int = 3) -> list[str]:
        """Entries of a word list seen on what `query` asks for, so that nobody asks for a Kingston faucet."""
        thing = TextFeatures.of(query).head
        if thing is None or thing in _VAGUE:
            return []
        return sorted(entry for entry, count in self.seen.get((kind, thing), Counter()).items() if count >= min_count)


@dataclass(frozen=True, slots=True)
class Subject:
    """The pair to edit, and what to draw from."""

    query: str
    document: str
    corpus: Corpus
    rng: random.Random

    @property
    def asked(self) -> TextFeatures:
        """Features of the query."""
        return TextFeatures.of(self.query)

    @property
    def offered(self) -> TextFeatures:
        """Features of the document."""
        return TextFeatures.of(self.document)

    def ask(self, query: str | None, twin: str | None = None) -> Edited | None:
        """The document with another query; None for None."""
        return None if query is None else Edited(query, self.document, twin)

    def offer(self, document: str) -> Edited:
        """The query with another document."""
        return Edited(self.query, document)


Edit = Callable[[Subject], Edited | None]
Others = Callable[[str, Subject], Sequence[str]]


def _lone_measures(subject: Subject) -> list[tuple[str, str]]:
    """(number, unit) of a document that has one of that unit, to a query without any number."""
    found = [] if subject.asked.numbers else [(m[1], m[2].lower()) for m in _MEASURE.finditer(subject.document)]
    units = Counter(unit for _, unit in found)
    return [(number, unit) for number, unit in found if units[unit] == 1]


def change_quantity(subject: Subject) -> Edited | None:
    """Ask for another measure than the document's."""
    measures = _lone_measures(subject)
    if not measures:
        return None
    number, unit = subject.rng.choice(measures)
    other = max(1, round(float(number) * subject.rng.choice((0.5, 1.5, 2.0, 3.0))))
    return subject.ask(f"{other} {unit} {subject.query}", f"{number} {unit} {subject.query}")


def change_unit(subject: Subject) -> Edited | None:
    """Ask for the document's number in another unit."""
    measures = [(number, unit) for number, unit in _lone_measures(subject) if unit in _OTHER_UNIT]
    if not measures:
        return None
    number, unit = subject.rng.choice(measures)
    return subject.ask(f"{number} {_OTHER_UNIT[unit]} {subject.query}", f"{number} {unit} {subject.query}")


def _swap(text: str, old: str, new: str) -> str | None:
    """`text` with the first `old` replaced, in its case; None where it is not there as written."""
    match = re.search(rf"(?<![\w-]){re.escape(old)}(?![\w-])", text, re.IGNORECASE)
    if match is None:
        return None
    shown = new.title() if match[0][:1].isupper() else new
    return text[: match.start()] + shown + text[match.end() :]


def _change_listed(kind: str, others: Others) -> Edit:
    """Ask for another entry of a word list than the one entry the document has."""

    def edit(subject: Subject) -> Edited | None:
        asked, offered = subject.asked.listed(kind), subject.offered.listed(kind)
        if len(offered) != 1 or (asked and asked != offered):
            return None
        own = " ".join(next(iter(offered)))
        choices = [other for other in others(own, subject) if not same_entry(kind, own, other)]
        if not choices:
            return None
        other = subject.rng.choice(choices)
        if asked:
            return subject.ask(_swap(subject.query, own, other))
        return subject.ask(f"{other} {subject.query}", f"{own} {subject.query}")

    return edit


def _any_colour(_own: str, _subject: Subject) -> Sequence[str]:
    return [entry for group in lexicon()["colours"] for entry in group]


def _usual(kind: str) -> Others:
    def others(_own: str, subject: Subject) -> Sequence[str]:
        return subject.corpus.usual(kind, subject.query)

    return others


def _other_sizes(own: str, subject: Subject) -> Sequence[str]:
    group = next((group for group in _GROUPS if own in group), ())
    is_bed = bool(_BEDDING & set(subject.asked.words))
    return [size for size in group if size != own] if is_bed == (group == _GROUPS[0]) else []


def change_model(subject: Subject) -> Edited | None:
    """Ask for a model number one digit off the document's."""
    for model in sorted(subject.asked.models & subject.offered.models):
        position = max(index for index, character in enumerate(model) if character.isdigit())
        digit = subject.rng.choice([d for d in "0123456789" if d != model[position]])
        swapped = _swap(subject.query, model, model[:position] + digit + model[position + 1 :])
        if swapped is not None:
            return subject.ask(swapped)
    return None


def change_opposite(subject: Subject) -> Edited | None:
    """Ask for the opposite of what the document says of itself."""
    asked, offered = subject.asked, subject.offered
    for left, right in lexicon()["opposites"]:
        for own, other in ((left, right), (right, left)):
            if stem(own) not in offered.words or {stem(other)} & {*offered.words, *asked.words}:
                continue
            if stem(own) in asked.words:
                return subject.ask(_swap(subject.query, own, other))
            return subject.ask(f"{other} {subject.query}", f"{own} {subject.query}")
    return None


def exclude(subject: Subject) -> Edited | None:
    """Ask for the thing without what a title has it with."""
    match = _WITH.search(subject.document)
    is_title = len(subject.query.split()) <= 6 and len(subject.document.split()) <= 30
    if match is None or not is_title or re.search(r"\bwith(out)?\b", subject.query):
        return None
    thing = match[1].lower()
    return subject.ask(f"{subject.query} without {thing}", f"{subject.query} with {thing}")


def make_accessory(subject: Subject) -> Edited | None:
    """Offer something to keep the thing in, instead of the thing."""
    asked = subject.asked
    if asked.head is None or asked.listed("accessories") or asked.numbers or not 2 <= len(asked.words) <= 4:
        return None
    return subject.offer(subject.rng.choice(_ACCESSORIES).format(subject.query.title()))


def make_part(subject: Subject) -> Edited | None:
    """Offer a part that is often seen with the thing, instead of the thing."""
    asked = subject.asked
    parts = [part for part in subject.corpus.usual("parts", subject.query) if part not in asked.words]
    if not parts or asked.listed("parts") or asked.numbers or len(asked.words) > 4:
        return None
    return subject.offer(f"{subject.rng.choice(parts).title()} for {subject.query.title()}")


def take_answer_out(subject: Subject) -> Edited | None:
    """Leave out the sentences with numbers of a passage asked for a number."""
    sentences = re.split(r"(?<=[.!?])\s+", subject.document)
    kept = [sentence for sentence in sentences if not re.search(r"\d", sentence)]
    return subject.offer(" ".join(kept)) if 0 < len(kept) < len(sentences) else None


def take_stranger(subject: Subject) -> Edited | None:
    """Offer a document of another query, with no word in common."""
    other, found = subject.corpus.pairs[subject.rng.randrange(len(subject.corpus.pairs))]
    shared = subject.asked.content & (TextFeatures.of(other).content | TextFeatures.of(found).content)
    return None if shared else subject.offer(found)


def use_synonym(subject: Subject) -> Edited | None:
    """Ask with another word for the same thing."""
    for group in lexicon()["synonyms"]:
        for word in group:
            swapped = _swap(subject.query, word, subject.rng.choice([w for w in group if w != word]))
            if swapped is not None:
                return subject.ask(swapped)
    return None


def misspell(subject: Subject) -> Edited | None:
    """Drop a letter, or swap two, inside one long word that the document has."""
    offered = subject.offered.words
    words = [w for w in subject.query.split() if len(w) >= 6 and w.isalpha() and stem(w.lower()) in offered]
    if not words:
        return None
    word = subject.rng.choice(words)
    at = subject.rng.randrange(2, len(word) - 1)
    dropped, swapped = word[:at] + word[at + 1 :], word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
    wrong = dropped if subject.rng.random() < 0.5 else swapped
    return None if wrong == word else subject.ask(subject.query.replace(word, wrong, 1))


EDITS: dict[str, Edit] = {
    "quantity_differs": change_quantity,
    "unit_differs": change_unit,
    "brand_differs": _change_listed("brands", _usual("brands")),
    "colour_differs": _change_listed("colours", _any_colour),
    "material_differs": _change_listed("materials", _usual("materials")),
    "size_differs": _change_listed("sizes", _other_sizes),
    "model_differs": change_model,
    "opposite": change_opposite,
    "negation_broken": exclude,
    "accessory": make_accessory,
    "part": make_part,
    "answer_kind_missing": take_answer_out,
    "nothing_shared": take_stranger,
    "synonym": use_synonym,
    "misspelt": misspell,
}
"""By the predicate an edit brings about."""
