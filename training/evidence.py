"""Which words of a document to quote: the passages that hold most of what the query names.

A long text is cut into sentences, and a sentence that is too long into clauses and windows; the best one is quoted,
then the best for what is still unquoted. A title is no sentence: its runs of matching words are quoted as they stand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from relevance.explanation import MAX_QUOTE_WORDS
from relevance.terms import UNITS, clean, keys, words

MAX_PIECES = 12
"""Blank-separated pieces in a quote."""
_TITLE_PIECES = 20
_MIN_INNER_CHARACTERS = 4
_PIECE = re.compile(r"\S+")
_ABBREVIATIONS = UNITS | {"approx", "dr", "e.g", "i.e", "jr", "mr", "mrs", "no", "prof", "sr", "st", "u.s", "vs"}
_DASHES = "-\u2013\u2014"
_NUMERIC = re.compile(
    r"\bhow (?:much|many|long|old|big|tall|far|often|hot)\b|\b(?:when|age|average|cost|dosage|dose|price|salary|income|"
    r"temperature|weight|year|date|number|rate)\b",
    re.IGNORECASE,
)


def asks_for_number(query: str) -> bool:
    """Whether the answer is likely a number."""
    return _NUMERIC.search(query) is not None


@dataclass(frozen=True, slots=True)
class Piece:
    """One blank-separated piece of a text; characters from `start` up to but not including `end`."""

    start: int
    end: int
    keys: tuple[str, ...]
    ends_sentence: bool
    ends_clause: bool


@lru_cache(maxsize=65536)
def _look(piece: str) -> tuple[tuple[str, ...], bool, bool]:
    bare = piece.rstrip("\"')]*")
    ends = bare.endswith(("!", "?")) or (
        bare.endswith(".") and len(bare) > 2 and bare[:-1].lower() not in _ABBREVIATIONS
    )
    return tuple(keys(piece)), ends, ends or piece.endswith((",", ":", ")", *_DASHES))


def split_pieces(text: str) -> list[Piece]:
    """The pieces of a cleaned text."""
    return [Piece(m.start(), m.end(), *_look(m.group())) for m in _PIECE.finditer(text)]


def _shorten(quote: str) -> str:
    """Whole pieces of a quote, as many as it may have words."""
    while len(words(quote)) > MAX_QUOTE_WORDS:
        quote = quote.rpartition(" ")[0]
    return quote


def _find_hits(pieces: Sequence[Piece], terms: Sequence[tuple[str, ...]]) -> list[frozenset[int]]:
    """For each piece the indices of the terms it has."""
    where: dict[str, list[int]] = {}
    for i, piece in enumerate(pieces):
        for key in piece.keys:
            where.setdefault(key, []).append(i)
    hits: list[set[int]] = [set() for _ in pieces]
    for index, term in enumerate(terms):
        found = where.get(term[0], [])
        if len(term) > 1:
            joined = f" {' '.join(term)} "
            found = [i for i in found if joined in f" {' '.join(pieces[i].keys)} "]
        elif not found and len(term[0]) >= _MIN_INNER_CHARACTERS and term[0].isalpha():
            found = [i for key, places in where.items() if term[0] in key for i in places]
        for i in found:
            hits[i].add(index)
    return [frozenset(found) for found in hits]


class EvidenceFinder:
    """The passages of one document that hold terms of a query."""

    def __init__(self, document: str, terms: Sequence[tuple[tuple[str, ...], float]], *, wants_number: bool) -> None:
        """`terms`: the keys, at least one, and the weight of each term to look for."""
        self._text = clean(document)
        self._pieces = split_pieces(self._text)
        self._weights = [weight for _, weight in terms]
        self._hits = _find_hits(self._pieces, [term for term, _ in terms])
        self._wants_number = wants_number

    def quotes(self, most: int) -> list[str]:
        """At most `most` quotes in the document's order, none if no term is there."""
        is_title = len(self._pieces) <= _TITLE_PIECES and not any(piece.ends_sentence for piece in self._pieces[:-1])
        self._context = -0.01 if is_title else 0.01
        spans = self._runs() if is_title else self._passages()
        chosen: list[tuple[int, int]] = []
        quoted: set[int] = set()
        while spans and len(chosen) < most:
            value, start, end = max((self._value(a, b, quoted), a, b) for a, b in spans)
            if value <= 0.0:
                break
            chosen.append((start, end))
            quoted.update(*self._hits[start:end])
            spans = [(a, b) for a, b in spans if b <= start or a >= end]
        return self._cut(sorted(chosen))

    def opening(self) -> list[str]:
        """The document's first words, where nothing else can be pointed at."""
        end = next((i + 1 for i, p in enumerate(self._pieces[:MAX_PIECES]) if p.ends_sentence), MAX_PIECES)
        return self._cut([(0, min(end, len(self._pieces)))])

    def _cut(self, spans: Sequence[tuple[int, int]]) -> list[str]:
        cut = [self._text[self._pieces[a].start : self._pieces[b - 1].end] for a, b in spans if a < b]
        stripped = [_shorten(re.sub(r"^[^\w$#]+", "", quote)).rstrip(f" ,:([{_DASHES}") for quote in cut]
        return [quote for quote in stripped if any(c.isalnum() for c in quote)]

    def _value(self, start: int, end: int, quoted: set[int]) -> float:
        new = frozenset().union(*self._hits[start:end]) - quoted
        value = sum(self._weights[i] for i in new)
        if new and self._wants_number and any(any(k.isdigit() for k in p.keys) for p in self._pieces[start:end]):
            value *= 1.5
        # In running text the words around say more than they cost; in a title they say nothing of the match.
        return value + self._context * (end - start) * (value > 0.0)

    def _runs(self) -> list[tuple[int, int]]:
        hit = [i for i, hits in enumerate(self._hits) if hits]
        runs: list[tuple[int, int]] = []
        for i in hit:
            if runs and i - runs[-1][1] <= 1 and i + 1 - runs[-1][0] <= MAX_PIECES:
                runs[-1] = (runs[-1][0], i + 1)
            else:
                runs.append((i, i + 1))
        return [(a, self._with_unit(b)) for a, b in runs]

    def _with_unit(self, end: int) -> int:
        is_number = self._pieces[end - 1].keys[-1:] != () and self._pieces[end - 1].keys[-1].isdigit()
        has_unit = end < len(self._pieces) and self._pieces[end].keys[:1] != () and self._pieces[end].keys[0] in UNITS
        return end + 1 if is_number and has_unit else end

    def _passages(self) -> list[tuple[int, int]]:
        """Sentences with hits; of a long one its clauses, of a long clause the windows that begin at a hit."""
        found: list[tuple[int, int]] = []
        for start, end in self._split(0, len(self._pieces), "ends_sentence"):
            if end - start <= MAX_PIECES:
                found.append((start, end))
                continue
            for a, b in self._split(start, end, "ends_clause"):
                if b - a <= MAX_PIECES:
                    found.append((a, b))
                else:
                    hit = [i for i in range(a, b) if self._hits[i]]
                    found += [(i, min(i + MAX_PIECES, b)) for i in {a, *hit, *(max(a, i - 3) for i in hit)}]
        return [(a, b) for a, b in found if any(self._hits[a:b])]

    def _split(self, start: int, end: int, mark: str) -> list[tuple[int, int]]:
        cuts = [i + 1 for i in range(start, end - 1) if getattr(self._pieces[i], mark)]
        return list(zip([start, *cuts], [*cuts, end], strict=True))
