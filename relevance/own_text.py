"""A text's own spelling of what was copied from it token by token.

    "usb - c to usb - c cable"  of  "1 m USB-C to USB-C Cable, braided"   ->   "USB-C to USB-C Cable"

A lower-casing tokenizer that splits at punctuation gives back the same words (`relevance.terms.words`), but not the
characters that stood there. Here they are found again: words are compared in normal form, and each knows its place.
"""

from bisect import bisect_left
from itertools import accumulate

from relevance.terms import fold, placed_words


class OwnText:
    """One text, to look words up in. Made once, read often; time and memory go with its length."""

    def __init__(self, text: str) -> None:
        self._text = text
        placed = placed_words(text)
        self._words = [word for word, _, _ in placed]
        self._places = [(start, end) for _, start, end in placed]
        self._joined = f" {' '.join(self._words)} "
        self._begins = [0, *accumulate(len(word) + 1 for word in self._words)]

    def quote(self, copied: str) -> str | None:
        """The characters that stand where the words of `copied` first stand one after the other; None: nowhere."""
        wanted = [word for word, _, _ in placed_words(copied)]
        at = self._joined.find(f" {' '.join(wanted)} ") if wanted else -1
        if at < 0:
            return None
        first = bisect_left(self._begins, at)
        return self._between(first, first + len(wanted) - 1)

    def pick(self, copied: str) -> str | None:
        """The same on one line, for words that stand there in their order, others maybe between: runs and blanks."""
        runs: list[list[int]] = []
        after = 0
        for word, _, _ in placed_words(copied):
            try:
                found = self._words.index(word, after)
            except ValueError:
                return None
            if runs and runs[-1][1] == found - 1:
                runs[-1][1] = found
            else:
                runs.append([found, found])
            after = found + 1
        return " ".join(" ".join(self._between(first, last) for first, last in runs).split()) or None

    def _between(self, first: int, last: int) -> str:
        end = self._places[last][1]
        while end < len(self._text) and not self._text[end].isspace() and not fold(self._text[end]):
            end += 1  # marks belong to the letter before them
        return self._text[self._places[first][0] : end]
