"""From an answer's tokens to the events of its steps. Pure.

Tokens are not text: a byte-level BPE splits characters, a WordPiece vocabulary joins pieces. So all tokens so far are
decoded together each time, and of the step that is not finished only what can no longer change is said: no part of a
character, no blank that may turn out to be its end.
"""

from collections.abc import Sequence

from relevance.explanation import END, STEPS, read_value, steps
from relevance.grades import GradeScale
from relevance.tokenization import TextTokenizer
from service.explaining.events import Delta, Step

_PART_OF_CHARACTER = "\ufffd"


class ExplanationWriter:
    """Writes one explanation."""

    def __init__(self, tokenizer: TextTokenizer, scale: GradeScale) -> None:
        self._tokenizer, self._scale = tokenizer, scale
        self._ids: list[int] = []
        self._num_finished = 0
        self._said = ""
        """Of the step that is not finished."""

    @property
    def is_complete(self) -> bool:
        """Whether every step has been said."""
        return self._num_finished == len(STEPS)

    @property
    def text(self) -> str:
        """All that the tokens so far say."""
        return self._tokenizer.decode(self._ids)

    def write(self, tokens: Sequence[int]) -> list[Delta | Step]:
        """The events that `tokens`, the next ones, bring.

        Raises:
            ExplanationError: a finished step is not readable; the grammar does not let that happen.
        """
        self._ids += tokens
        text = self.text
        events: list[Delta | Step] = []
        for name, start, end in steps(text)[self._num_finished :]:
            is_finished = text[end - 1] == END
            value = text[start : end - is_finished].partition(":")[2].lstrip()
            stable = value.rstrip() if is_finished else value.rstrip(_PART_OF_CHARACTER).rstrip()
            if len(stable) > len(self._said):
                events.append(Delta(name, stable[len(self._said) :]))
                self._said = stable
            if is_finished:
                read = read_value(name, stable, self._scale)
                events.append(Step(name, list(read) if isinstance(read, tuple) else read))
                self._num_finished += 1
                self._said = ""
        return events
