"""Which runs of a document's tokens may be quoted: whole words, copied token by token.

A quote may start in front of token s and end in front of token e when neither edge cuts a word, all tokens between can
be copied (known to the vocabulary, no reserved character in them), it is short enough, and one of its tokens is marked:
as a word of the query, or, in a document without any, as a word that says something. WordPiece marks a token that
goes on with a word by `##`; in a byte-level BPE a word goes on where letters touch letters, and a token that holds a
part of a character has no edge.

Everything about a token is worked out once and remembered, so a document costs a look-up per token.
"""

import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import accumulate, dropwhile, pairwise

from relevance.explanation import END, QUOTE_END, QUOTE_START
from relevance.prompt import End
from relevance.terms import is_content, keys, words
from relevance.tokenization import TextTokenizer

_MARKS = frozenset((END, QUOTE_START, QUOTE_END))
_PART_OF_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class _Surface:
    """What a token looks like from outside."""

    can_be_copied: bool
    is_special: bool
    """Whether no text of a user encodes to it."""
    has_word: bool
    """Whether there is a letter or digit in it."""
    is_blank: bool
    open_start: bool
    """Whether it may go on with the word of the token before."""
    open_end: bool
    """Whether its word may go on in the token after."""
    weight: int
    """Words in it, at least 1."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """What of a query makes a word of the document worth quoting."""

    keys: frozenset[str] = frozenset()
    has_number: bool = False
    """The query has a number: another one in the document says something, too."""

    def include(self, found: Sequence[str]) -> bool:
        """Whether a word with the keys `found` is one of them."""
        return not self.keys.isdisjoint(found) or (self.has_number and any(key.isdigit() for key in found))


def _joins(character: str) -> bool:
    if character == _PART_OF_CHARACTER:
        return True
    is_word = character.isalnum() or (unicodedata.category(character)[0] in "MC" and character not in "\t\n\r")
    return is_word and len(words(f"{character}{character}")) < 2  # CJK characters are words each


_NO_ANCHORS = Anchors()
_MAX_REMEMBERED = 100_000


class TokenSurfaces:
    """The surfaces of a vocabulary's tokens, worked out when first met."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[int, _Surface] = {}
        self._content: dict[tuple[int, ...], tuple[str, ...]] = {}
        probe = tokenizer.encode_literal("a b")
        self._is_wordpiece = "".join(tokenizer.decode([token]) for token in probe) != tokenizer.decode(probe)

    def __getitem__(self, token: int) -> _Surface:
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._look(token)
        return found

    def strip_special(self, ids: Sequence[int]) -> Sequence[int]:
        """`ids` without special tokens at either end: the template's, where it puts some around the document."""
        start, end = 0, len(ids)
        while start < end and self[ids[start]].is_special:
            start += 1
        while end > start and self[ids[end - 1]].is_special:
            end -= 1
        return ids[start:end]

    def content_keys(self, ids: tuple[int, ...]) -> tuple[str, ...]:
        """The keys of the tokens between two edges; none if they are a stop word, a lone letter or punctuation."""
        found = self._content.get(ids)
        if found is None:
            if len(self._content) >= _MAX_REMEMBERED:
                self._content.clear()
            text = self.tokenizer.decode(ids)
            found = self._content[ids] = tuple(keys(text)) if is_content(text) else ()
        return found

    def _look(self, token: int) -> _Surface:
        text = self.tokenizer.decode([token])
        is_special = self.tokenizer.encode_literal(text) == [token] and self.tokenizer.encode_user_texts([text])[0] != [
            token
        ]
        goes_on = self._is_wordpiece and text.startswith("##") and len(text) > 2
        shown = text[2:] if goes_on else text
        return _Surface(
            can_be_copied=not (is_special or self.tokenizer.is_unknown(token) or _MARKS.intersection(shown)),
            is_special=is_special,
            has_word=any(c.isalnum() for c in shown),
            is_blank=not shown.strip(),
            open_start=goes_on if self._is_wordpiece else not shown or _joins(shown[0]),
            open_end=not self._is_wordpiece and (not shown or _joins(shown[-1])),
            weight=max(1, len(words(shown))),
        )

    def is_edge(self, left: int, right: int) -> bool:
        """Whether no word goes from token `left` on into token `right`."""
        if self._is_wordpiece:
            return not self[right].open_start
        return not (self[left].open_end and self[right].open_start)


class QuotableSpans:
    """The spans of one document."""

    def __init__(
        self,
        ids: Sequence[int],
        surfaces: TokenSurfaces,
        max_weight: int,
        kept: End | None = None,
        anchors: Anchors = _NO_ANCHORS,
    ) -> None:
        """Spans of `ids`, no heavier than `max_weight` words or tokens, that have one of `anchors` if any span does.

        `kept` is the end that stayed of a document that was cut; the other end may then be in the middle of a word.
        """
        self.ids = ids
        self._tokenizer = surfaces.tokenizer
        self._max_weight = max_weight
        self._looks = [surfaces[token] for token in ids]
        edges = [surfaces.is_edge(left, right) for left, right in pairwise(ids)]
        self._edge = [kept != "end", *edges, kept != "start"] if ids else [False]
        self._weight = [0, *accumulate(look.weight for look in self._looks)]
        self._find_ends()
        bounds = [0, *(i + 1 for i, is_edge in enumerate(edges) if is_edge), len(ids)] if ids else []
        content = [(end - 1, surfaces.content_keys(tuple(ids[start:end]))) for start, end in pairwise(bounds)]
        anchored = self._find_starts({last for last, found in content if anchors.include(found)})
        self.starts = anchored or self._find_starts({last for last, found in content if found})
        """Positions a quote may start in front of, ascending."""
        self._start_set = frozenset(self.starts)

    def _find_ends(self) -> None:
        count = len(self.ids)
        self._is_end = [False] * (count + 1)
        self._next_end = [-1] * (count + 1)  # the first end at or behind a position that copied tokens lead to
        self._stop = [count] * (count + 1)  # the first token from a position on that cannot be copied
        for position in range(count, 0, -1):
            look = self._looks[position - 1]
            self._stop[position - 1] = self._stop[position] if look.can_be_copied else position - 1
            self._is_end[position] = self._edge[position] and not look.is_blank and look.can_be_copied
            behind = self._next_end[position + 1] if position < self._stop[position] else -1
            self._next_end[position] = position if self._is_end[position] else behind

    def _find_starts(self, marked: Container[int]) -> list[int]:
        count = len(self.ids)
        self._num_marked = [0, *accumulate(int(p in marked) for p in range(count))]
        self._next_marked = [count] * (count + 1)
        for position in range(count - 1, -1, -1):
            self._next_marked[position] = position if position in marked else self._next_marked[position + 1]
        edge = self._edge
        return [p for p, look in enumerate(self._looks) if edge[p] and look.has_word and self.can_go_on(p, p)]

    def can_go_on(self, start: int, position: int) -> bool:
        """Whether a quote from `start` up to `position` may take the token at `position` and still end well."""
        if position >= self._stop[position]:
            return False
        reached = position
        if self._num_marked[position + 1] == self._num_marked[start]:
            reached = self._next_marked[position + 1]
            if reached >= self._stop[position]:
                return False
        end = self._next_end[reached + 1]
        return end >= 0 and self._weight[end] - self._weight[start] <= self._max_weight

    def can_end(self, start: int, position: int) -> bool:
        """Whether a quote from `start` may end in front of `position`."""
        return self._is_end[position] and self._num_marked[position] > self._num_marked[start]

    def find(self, quote: str, after: int = 0) -> tuple[int, int] | None:
        """The first span (start, end) from `after` on that reads as `quote`, as much of its beginning as may be quoted.

        Where no span reads just so, punctuation that shares a token with its first or last word comes along, and
        punctuation before the first word may go. None if the quote is not in these tokens.
        """
        bounds = [p for p in range(after, len(self.ids) + 1) if self._edge[p]]
        groups = [words(self._tokenizer.decode(self.ids[a:b])) for a, b in pairwise(bounds)]
        places = [(i, j) for i, group in enumerate(groups) for j in range(len(group))]
        spelt = [word for group in groups for word in group]
        whole = words(quote)
        bare = list(dropwhile(lambda word: not word[0].isalnum(), whole))
        shortened: tuple[int, int] | None = None
        for wanted, is_exact in ((whole, True), (whole, False), (bare, False)) if bare else ():
            for first in range(len(spelt) - len(wanted) + 1):
                if spelt[first] != wanted[0] or spelt[first : first + len(wanted)] != wanted:
                    continue
                (group, skipped), (last, ended) = places[first], places[first + len(wanted) - 1]
                is_whole = skipped == 0 and ended == len(groups[last]) - 1
                is_near = not is_exact and not any(word[0].isalnum() for word in groups[group][:skipped])
                span = self._cut(bounds[group], bounds[last + 1]) if is_whole or is_near else None
                if span is not None and span[1] == bounds[last + 1]:
                    return span
                shortened = shortened or span
        return shortened

    def _cut(self, start: int, end: int) -> tuple[int, int] | None:
        position, last = start, -1
        while start in self._start_set and position < end and self.can_go_on(start, position):
            position += 1
            last = position if self.can_end(start, position) else last
        return (start, last) if last >= 0 else None
