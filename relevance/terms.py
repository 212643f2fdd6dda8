"""When two texts say the same words: the normal form that quotes and missing terms are judged by.

    words   "USB-C, 24in"      -> usb - c , 24in     to find a quote in a document
    terms   "What 24in. USB-C" -> 24in  USB-C        what a query asks for, piece by piece
    keys    "24in. cables"     -> 24 in cable        to tell whether a term is missing

Words ignore case, accents, white space, control characters and the spacing of punctuation: what a tokenizer that
lower-cases and splits gives back is the same words as the text it was given. Keys go further, since a claim that
something is missing must hold for any spelling of it: no punctuation, no plural, one spelling per unit, digits apart
from letters.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

# Characters the explanation's format uses, and what stands for them in texts of users.
RESERVED = {"|": "/", "<": "(", ">": ")", ";": ","}
_CONTROL = dict.fromkeys(c for c in (*range(32), 127) if chr(c) not in "\t\n\r")
# BERT's normalizer takes U+FFFD for nothing, as it does control characters.
_TO_FREE = str.maketrans(RESERVED) | _CONTROL | {0xFFFD: None}

_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_BREAK = re.compile(r"[\s()\[\]{}\"!?]+|\.{2,}|[,:](?=\D)")
_KEY = re.compile(r"[^\W\d_]+|\d+")
_CJK = re.compile(r"([\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff])")
# Letters alone, long enough that finding them inside other words ("stool" in "barstool") is no accident.
_MIN_INNER_CHARACTERS = 4

_UNITS = {
    "in": ("inch", "inches"),
    "ft": ("foot", "feet"),
    "yd": ("yard", "yards"),
    "mm": ("millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("centimeter", "centimeters", "centimetre", "centimetres"),
    "m": ("meter", "meters", "metre", "metres"),
    "km": ("kilometer", "kilometers", "kilometre", "kilometres"),
    "lb": ("lbs", "pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "gal": ("gallon", "gallons"),
    "qt": ("quart", "quarts"),
    "l": ("liter", "liters", "litre", "litres"),
    "ml": ("milliliter", "milliliters"),
    "v": ("volt", "volts"),
    "w": ("watt", "watts"),
    "a": ("amp", "amps", "ampere", "amperes"),
    "sq": ("square",),
    "gb": ("gigabyte", "gigabytes"),
    "mb": ("megabyte", "megabytes"),
    "tb": ("terabyte", "terabytes"),
    "hr": ("hour", "hours", "hrs"),
    "min": ("minute", "minutes", "mins"),
    "pc": ("piece", "pieces", "pcs"),
}
UNITS = frozenset(_UNITS)
_UNIT_OF = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}

_STOP_WORDS = """
a about above after again all also am an and any anybody anyone anything are as at be because been
before being below between both but by came can cannot could d did do does doing don done down
during each either else ever every few find for from further get getting give go got had has have
having he hello help her here hers hi him his how i if in into is isn it its itself just know let
like ll look looking m made make many may me might more most much must my need no nor not now of off
on once one only or other our out over own please possible re s same should since so some someone
something such t take tell than thank thanks that the their them then there these they thing things
this those through to too under until up upon us use used using ve very want was we were what when
where whether which while who whom whose why will with within without would yes you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that ask or connect and name nothing."""


@lru_cache(maxsize=4096)
def _without_control(character: str) -> str:
    return "" if unicodedata.category(character)[0] == "C" and character not in "\t\n\r" else character


@lru_cache(maxsize=4096)
def _without_mark(character: str) -> str:
    kept = "" if unicodedata.category(character) == "Mn" else _without_control(character)
    return f" {kept} " if _CJK.fullmatch(kept) else kept


def clean(text: str) -> str:
    """`text` on one line with single blanks, without control characters and reserved characters."""
    text = text.translate(_TO_FREE)
    return " ".join((text if text.isascii() else "".join(map(_without_control, text))).split())


def fold(text: str) -> str:
    """Case, accents and control characters away; CJK characters apart, as tokenizers take them."""
    text = text.translate(_TO_FREE)
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    return "".join(map(_without_mark, decomposed))


def words(text: str) -> list[str]:
    """The words and punctuation marks of `text` in normal form."""
    return _WORD.findall(fold(text))


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    return fold(character)


def placed_words(text: str) -> list[tuple[str, int, int]]:
    """The same, each with the characters [start, end) of `text` that it is."""
    folded = fold(text) if text.isascii() else ""
    if len(folded) == len(text):  # nothing was taken out, so every character is where it was
        return [(match[0], match.start(), match.end()) for match in _WORD.finditer(folded)]
    pieces = [_fold_character(character) for character in text]
    origins = [index for index, piece in enumerate(pieces) for _ in piece]
    return [
        (match[0], origins[match.start()], origins[match.end() - 1] + 1) for match in _WORD.finditer("".join(pieces))
    ]


@lru_cache(maxsize=65536)
def _key(word: str) -> str:
    """One word without plural and in its unit's short spelling."""
    if word in _UNIT_OF:
        return _UNIT_OF[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def keys(text: str) -> list[str]:
    """What `text` is compared by where spelling must not matter."""
    return [_key(word) for word in _KEY.findall(fold(text))]


def terms(query: str) -> list[str]:
    """The pieces of a query between blanks, brackets and ends of sentences, in order; stop words included."""
    stripped = (piece.strip(".,:'`*") for piece in _BREAK.split(clean(query)))
    return [piece for piece in stripped if any(c.isalnum() for c in piece)]


def is_content(term: str) -> bool:
    """Whether `term` says something of its own: not a stop word, not a lone letter."""
    found = _KEY.findall(fold(term))
    return any(word not in STOP_WORDS and (len(word) > 1 or word.isdigit()) for word in found)


@dataclass(frozen=True, slots=True)
class Words:
    """A text to look words up in."""

    in_order: str
    """Words with a blank before, between and after them."""
    keys_in_order: str
    """Keys likewise."""
    letters: str
    """Keys without anything between them."""

    @classmethod
    def of(cls, text: str) -> Self:
        """The words of `text`."""
        found = keys(text)
        return cls(f" {' '.join(words(text))} ", f" {' '.join(found)} ", "".join(found))

    def has_quote(self, quote: str) -> bool:
        """Whether the words of `quote`, at least one of them, stand here one after the other."""
        found = words(quote)
        return bool(found) and f" {' '.join(found)} " in self.in_order

    def has_keys(self, term: str) -> bool:
        """Whether the keys of `term`, at least one of them, stand here one after the other."""
        found = keys(term)
        return bool(found) and f" {' '.join(found)} " in self.keys_in_order

    def lacks(self, term: str) -> bool:
        """Whether no spelling of `term` known here occurs; False where in doubt, or for a term without words."""
        found = keys(term)
        if not found or f" {' '.join(found)} " in self.keys_in_order:
            return False
        joined = "".join(found)
        return not (joined.isalpha() and len(joined) >= _MIN_INNER_CHARACTERS and joined in self.letters)
