"""The parts an explanation's grammar is made of: fixed tokens, a pick of terms, quotes.

A part is a set of places with moves between them: a token and the place behind it. Where a place is an end, the next
part may begin; a part that can also go on from there offers both. Places are tuples of small integers, so that states
can be compared and thrown away.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from relevance.explanation import MAX_QUOTES
from relevance.spans import QuotableSpans

Place = tuple[int, ...]
Moves = Iterable[tuple[int, Place]]

_NOTHING, _OPTION, _BETWEEN = 0, 1, 2
_NO_QUOTE, _OPEN, _INSIDE, _CLOSE = 0, 1, 2, 3


class Part(Protocol):
    """A part of the grammar; it takes at least one token."""

    start: Place

    def moves(self, place: Place) -> Moves:
        """What may come at `place`: tokens with the places behind them."""
        ...

    def is_end(self, place: Place) -> bool:
        """Whether the part may be over at `place`."""
        ...


class Literal:
    """Tokens that are forced."""

    start: Place = (0,)

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens

    def moves(self, place: Place) -> Moves:
        """The next token, if any is left."""
        return [(token, (place[0] + 1,)) for token in self._tokens[place[0] : place[0] + 1]]

    def is_end(self, place: Place) -> bool:
        """Behind the last token."""
        return place[0] == len(self._tokens)


class Pick:
    """At least one of several options, each a run of tokens, in their order; or `nothing` in their stead."""

    start: Place = (_BETWEEN, 0, 0, 0)

    def __init__(
        self,
        options: Sequence[Sequence[int]],
        weights: Sequence[int],
        most: int,
        between: Sequence[int] = (),
        nothing: Sequence[int] = (),
        *,
        required: Iterable[int] = (),
    ) -> None:
        """Options whose picked weights stay within `most` in all; `between` stands between two of them.

        Those at the indices `required` are not passed over: there must be room for all of them and any others.
        """
        self._options, self._weights, self._most = options, weights, most
        self._required = sorted(required)
        self._between, self._nothing = between, nothing

    # Places: (_NOTHING, offset), (_OPTION, option, offset, weight so far), (_BETWEEN, next option, offset, weight).

    def moves(self, place: Place) -> Moves:
        """On with the option begun; behind one, a later one."""
        if place == self.start:
            begun = [(self._nothing[0], (_NOTHING, 1))] if self._nothing else []
            return [*begun, *self._later(0, 0)]
        if place[0] == _NOTHING:
            return [(token, (_NOTHING, place[1] + 1)) for token in self._nothing[place[1] : place[1] + 1]]
        kind, option, offset, weight = place
        if kind == _BETWEEN:
            if offset < len(self._between):
                return [(self._between[offset], (_BETWEEN, option, offset + 1, weight))]
            return self._later(option, weight)
        if offset < len(self._options[option]):
            return [(self._options[option][offset], (_OPTION, option, offset + 1, weight))]
        later = self._later(option + 1, weight)
        return [(self._between[0], (_BETWEEN, option + 1, 1, weight))] if later and self._between else later

    def _later(self, first: int, weight: int) -> list[tuple[int, Place]]:
        options, weights, most = self._options, self._weights, self._most
        return [
            (options[i][0], (_OPTION, i, 1, weight + weights[i]))
            for i in range(first, self._next_required(first) + 1)
            if weight + weights[i] <= most
        ]

    def _next_required(self, first: int) -> int:
        """The last option that may come next, where those before `first` are done with."""
        return next((i for i in self._required if i >= first), len(self._options) - 1)

    def is_end(self, place: Place) -> bool:
        """Behind an option with no required one left, or behind `nothing`."""
        if place[0] == _NOTHING:
            return place[1] == len(self._nothing)
        is_behind = place[0] == _OPTION and place[2] == len(self._options[place[1]])
        return is_behind and not (self._required and self._required[-1] > place[1])


class Quotes:
    """Up to `MAX_QUOTES` spans of the document, in its order and apart from one another; or `nothing`."""

    start: Place = (_OPEN, 0, 0, 0)

    def __init__(
        self, spans: QuotableSpans, opening: Sequence[int], closing: Sequence[int], nothing: Sequence[int]
    ) -> None:
        self._spans, self._opening, self._closing, self._nothing = spans, opening, closing, nothing

    # Places: (_NO_QUOTE, offset), (_OPEN, quote, first position, offset), (_INSIDE, quote, start, position),
    # (_CLOSE, quote, position, offset).

    def moves(self, place: Place) -> Moves:
        """On with the span, or its end; behind one, a later one."""
        if place[0] == _NO_QUOTE:
            return [(token, (_NO_QUOTE, place[1] + 1)) for token in self._nothing[place[1] : place[1] + 1]]
        kind, quote, position, offset = place
        if kind == _INSIDE:
            return self._inside(quote, position, offset)
        if kind == _CLOSE:
            return self._closed(quote, position, offset)
        if place == self.start:
            return [(self._nothing[0], (_NO_QUOTE, 1)), *self._open(0, 0)]
        return self._opened(quote, position, offset)

    def _opened(self, quote: int, position: int, offset: int) -> list[tuple[int, Place]]:
        if offset < len(self._opening):
            return [(self._opening[offset], (_OPEN, quote, position, offset + 1))]
        ids = self._spans.ids
        return [(ids[p], (_INSIDE, quote, p, p + 1)) for p in self._spans.starts if p >= position]

    def _open(self, quote: int, position: int) -> list[tuple[int, Place]]:
        starts = self._spans.starts
        if quote == MAX_QUOTES or not starts or starts[-1] < position:
            return []
        return [(self._opening[0], (_OPEN, quote, position, 1))]

    def _inside(self, quote: int, start: int, position: int) -> list[tuple[int, Place]]:
        spans = self._spans
        found: list[tuple[int, Place]] = []
        if spans.can_go_on(start, position):
            found.append((spans.ids[position], (_INSIDE, quote, start, position + 1)))
        if spans.can_end(start, position):
            found.append((self._closing[0], (_CLOSE, quote, position, 1)))
        return found

    def _closed(self, quote: int, position: int, offset: int) -> list[tuple[int, Place]]:
        if offset < len(self._closing):
            return [(self._closing[offset], (_CLOSE, quote, position, offset + 1))]
        return self._open(quote + 1, position)

    def is_end(self, place: Place) -> bool:
        """Behind a closed quote, or behind `nothing`."""
        if place[0] == _NO_QUOTE:
            return place[1] == len(self._nothing)
        return place[0] == _CLOSE and place[3] == len(self._closing)
