"""From an answer's tokens to the events of its steps. Pure.

Tokens are not text: a byte-level BPE splits characters, a WordPiece vocabulary joins pieces. So all tokens so far are
decoded together each time, and of the step that is not finished only what can no longer change is said: no part of a
character, no blank that may turn out to be its end.

Pieces are the tokens' text, which may be lower-cased and spaced as the vocabulary has it (`usb - c`). The value of a
finished step has what was copied as it stands in document or query (`USB-C`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relevance.explanation import END, STEPS, read_value, steps
from relevance.grades import GradeScale
from relevance.own_text import OwnText
from relevance.tokenization import TextTokenizer
from service.explaining.events import Delta, Step, StepValue

_PART_OF_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts that an explanation copies from."""

    query: OwnText
    document: OwnText

    def respell(self, step: str, value: StepValue) -> StepValue:
        """The value of a step with what it copies as it stands there."""
        if step == "wants" and isinstance(value, str):
            return self.query.pick(value) or value
        if step == "missing" and isinstance(value, list):
            return list(dict.fromkeys(self.query.quote(term) or term for term in value))
        if step == "evidence" and isinstance(value, list):
            return list(dict.fromkeys(self.document.quote(text) or text.strip() for text in value))
        return value


class ExplanationWriter:
    """Writes one explanation."""

    def __init__(self, tokenizer: TextTokenizer, scale: GradeScale, sources: Sources) -> None:
        self._tokenizer, self._scale, self._sources = tokenizer, scale, sources
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
                said = list(read) if isinstance(read, tuple) else read
                events.append(Step(name, self._sources.respell(name, said)))
                self._num_finished += 1
                self._said = ""
        return events
