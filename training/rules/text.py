"""What the rules look at in a text: words, quantities with units, brands, colours, negations, kind of question.

Everything is a function of the text and the word lists of `lexicon.json`; nothing is learned. A quantity is
(dimension, value in one unit of that dimension), so that 1 ft and 12 in. are equal and 12 V and 12 in. are not;
a number without a unit has the dimension "count". Features are kept for the last texts seen: the documents of a
query share it.
"""

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from importlib import resources

QUESTION_WORDS = {
    "what",
    "who",
    "whom",
    "whose",
    "when",
    "where",
    "why",
    "how",
    "which",
    "is",
    "are",
    "can",
    "does",
    "do",
}
_CUTS = {"for", "with", "without", "in", "of", "to", "from", "that", "on", "by", "no", "not"}
_UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("in", "inch", "inches", '"'), ("length", 25.4)),
    **dict.fromkeys(("ft", "foot", "feet", "'"), ("length", 304.8)),
    **dict.fromkeys(("yd", "yard", "yards"), ("length", 914.4)),
    **dict.fromkeys(("m", "meter", "meters", "metre"), ("length", 1000.0)),
    "cm": ("length", 10.0),
    "mm": ("length", 1.0),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), ("mass", 453.6)),
    **dict.fromkeys(("kg", "kilogram"), ("mass", 1000.0)),
    **dict.fromkeys(("oz", "ounce", "ounces"), ("ounce", 1.0)),
    **dict.fromkeys(("g", "gram", "grams"), ("mass", 1.0)),
    "mg": ("mass", 0.001),
    **dict.fromkeys(("gal", "gallon", "gallons"), ("volume", 3785.0)),
    **dict.fromkeys(("qt", "quart"), ("volume", 946.0)),
    **dict.fromkeys(("l", "liter", "litre"), ("volume", 1000.0)),
    "ml": ("volume", 1.0),
    **dict.fromkeys(("v", "volt", "volts"), ("voltage", 1.0)),
    **dict.fromkeys(("w", "watt", "watts"), ("power", 1.0)),
    "hp": ("horsepower", 1.0),
    **dict.fromkeys(("a", "amp", "amps"), ("current", 1.0)),
    "mah": ("charge", 1.0),
    "ah": ("charge", 1000.0),
    **dict.fromkeys(("btu", "btus"), ("heat", 1.0)),
    "psi": ("pressure", 1.0),
    **dict.fromkeys(("awg", "gauge", "ga"), ("gauge", 1.0)),
    "tb": ("storage", 1000.0),
    "gb": ("storage", 1.0),
    "mb": ("storage", 0.001),
    **dict.fromkeys(("pack", "packs", "pk"), ("pack", 1.0)),
    **dict.fromkeys(("year", "years", "yr"), ("years", 1.0)),
    **dict.fromkeys(("light", "lights"), ("lights", 1.0)),
}
_NUMBER = r"\d+-\d+/\d+|\d+/\d+|\d+(?:,\d{3})+|\d+(?:\.\d+)?"
_CHAIN = re.compile(
    rf"(?<![\w.])\$?((?:{_NUMBER})(?:\s*x\s*(?:{_NUMBER}))*)[\s-]*((?:sq|square|cu|cubic)\.?\s*)?([a-z]+|[\"'])?",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z0-9][a-z0-9+&./'-]*[a-z0-9+]|[a-z0-9]")
_MODEL = re.compile(r"^(?=.*\d)(?=.*[a-z])[a-z0-9-]{3,}$")
_NEGATED = re.compile(r"\b(?:without|no|not|non)[\s-]+(?:an?\s+|the\s+|any\s+)?([a-z]+)|\b([a-z]{3,})[\s-]free\b")


@cache
def lexicon() -> dict[str, list[list[str]]]:
    """The word lists: groups of entries that mean the same (of one where there is no other); opposites are pairs."""
    text = (resources.files("training.rules") / "lexicon.json").read_text(encoding="utf-8")
    return {name: [[e] if isinstance(e, str) else e for e in entries] for name, entries in json.loads(text).items()}


@cache
def stop_words() -> frozenset[str]:
    """Words that ask for nothing."""
    return frozenset(word for group in lexicon()["stop_words"] for word in group)


def stem(word: str) -> str:
    """A word without its plural ending: batteries and battery, boxes and box, covers and cover are the same."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


@cache
def _phrases(kind: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(stem(word) for word in entry.split()) for group in lexicon()[kind] for entry in group)


@cache
def _groups(kind: str) -> dict[tuple[str, ...], int]:
    return {tuple(stem(w) for w in e.split()): index for index, group in enumerate(lexicon()[kind]) for e in group}


def same_entry(kind: str, left: str, right: str) -> bool:
    """Whether two entries of a word list mean the same: oak is a wood, charcoal a gray."""
    groups = _groups(kind)
    return groups[tuple(stem(w) for w in left.split())] == groups[tuple(stem(w) for w in right.split())]


def kinds_listed(features: "TextFeatures", kind: str) -> frozenset[int]:
    """Which groups of a word list a text has an entry of."""
    return frozenset(_groups(kind)[phrase] for phrase in features.listed(kind))


@cache
def _synonyms() -> dict[tuple[str, ...], frozenset[tuple[str, ...]]]:
    groups = [[tuple(stem(w) for w in entry.split()) for entry in group] for group in lexicon()["synonyms"]]
    return {phrase: frozenset(group) - {phrase} for group in groups for phrase in group}


def _value(number: str) -> float:
    whole, dash, rest = number.replace(",", "").partition("-")
    return float(Fraction(whole)) + (float(Fraction(rest)) if dash else 0.0)


def quantities(text: str) -> frozenset[tuple[str, float, str, float]]:
    """Every number of a text as (dimension, value, unit, number as written); "36 x 24 in." is two lengths.

    The value is in the dimension's own unit, and spellings of a unit are one unit.
    """
    found: set[tuple[str, float, str, float]] = set()
    for chain, power, unit in _CHAIN.findall(text.lower()):
        dimension, factor = _UNITS.get(unit, ("count", 1.0))
        if power:
            dimension, factor = f"{power.strip('. ')[:2]} {dimension}", 1.0
        for number in re.findall(_NUMBER, chain):
            try:
                plain = _value(number)
            except ZeroDivisionError:
                continue
            found.add((dimension, round(plain * factor, 4), f"{dimension} {factor:g}", round(plain, 4)))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """A text as the predicates see it; words are stems in order."""

    text: str
    words: tuple[str, ...]
    content: frozenset[str]
    quantities: frozenset[tuple[str, float]]
    """(dimension, value)."""
    numbers: frozenset[tuple[str, float]]
    """(unit, number as written)."""
    negated: frozenset[str]
    models: frozenset[str]
    """Words that mix letters and digits: model numbers, mostly."""
    question: str | None
    """The word a question starts with."""

    @classmethod
    @lru_cache(maxsize=65536)
    def of(cls, text: str) -> "TextFeatures":
        """Features of `text`; the last 65,536 are kept."""
        lowered = text.lower()
        words = tuple(stem(word.strip("'./-")) for word in _WORD.findall(lowered))
        negated = {stem(left or right) for left, right in _NEGATED.findall(lowered)}
        found = quantities(lowered)
        is_question = bool(words) and (words[0] in QUESTION_WORDS or text.rstrip().endswith("?"))
        return cls(
            text=text,
            words=words,
            content=frozenset(w for w in words if w not in stop_words()),
            quantities=frozenset((dimension, value) for dimension, value, _, _ in found),
            numbers=frozenset((unit, number) for _, _, unit, number in found),
            negated=frozenset(negated) - stop_words(),
            models=frozenset(w for w in words if _MODEL.match(w) and not re.fullmatch(r"[\d.,/-]+[a-z]+", w)),
            question=words[0] if is_question else None,
        )

    def has(self, phrase: tuple[str, ...]) -> bool:
        """Whether the words of `phrase` stand in the text one after the other."""
        if len(phrase) == 1:
            return phrase[0] in self.content or phrase[0] in self.words
        size = len(phrase)
        return any(self.words[i : i + size] == phrase for i in range(len(self.words) - size + 1))

    def mentions(self, word: str) -> bool:
        """Whether the text has this stem or a synonym of it."""
        return word in self.words or any(self.has(other) for other in _synonyms().get((word,), ()))

    def listed(self, kind: str) -> frozenset[tuple[str, ...]]:
        """The entries of one word list that the text has."""
        return listed(self, kind)

    @property
    def head(self) -> str | None:
        """What a short query asks for: its last content word before "for", "with" and the like; a guess."""
        return head(self)


@lru_cache(maxsize=65536)
def listed(features: TextFeatures, kind: str) -> frozenset[tuple[str, ...]]:
    """The entries of the word list `kind` that a text has."""
    present = set(features.words)
    return frozenset(phrase for phrase in _phrases(kind) if phrase[0] in present and features.has(phrase))


@cache
def _modifiers() -> frozenset[str]:
    return frozenset(word for kind in ("colours", "sizes", "materials") for phrase in _phrases(kind) for word in phrase)


@lru_cache(maxsize=65536)
def head(features: TextFeatures) -> str | None:
    """See `TextFeatures.head`."""
    last: str | None = None
    fallback: str | None = None
    for index, word in enumerate(features.words):
        if word in _CUTS and index > 0:
            break
        if word in stop_words() or word in _UNITS or not word.isalpha():
            continue
        fallback = word
        if word not in _modifiers():
            last = word
    return last or fallback
