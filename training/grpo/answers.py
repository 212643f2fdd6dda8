"""Answers as token ids: gold ones to learn from, sampled ones read back and cut into segments.

    grade_first    <grade> explanation <end>       what is served: the score needs one token
    grade_only     <grade> <end>                   the score alone
    reason_first   explanation <grade> <end>       the control: the grade can build on the reason, and must wait for it

Prompts come from the scoring spec's own encoder, and the explanation is encoded as user text, so no document can
forge a grade, a step or the end.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relevance.errors import ExplanationError
from relevance.explanation import Explanation, render, steps
from relevance.spec import ScoringSpec
from relevance.tokenization import TextTokenizer
from training.data import DataError, open_lines
from training.rewards import SEGMENTS, Answer, Judged

Order = Literal["grade_first", "grade_only", "reason_first"]
GRADE, LAST = 0, len(SEGMENTS) - 1


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """A pair with its gold answer."""

    query: str
    document: str
    grade: int
    explanation: Explanation | None = None
    rule: str = ""
    """Id of the rule or slice it belongs to; empty where nobody said."""

    @property
    def judged(self) -> Judged:
        """What rewards compare an answer with."""
        return Judged(self.query, self.document, self.grade, self.explanation)


def _text(row: Mapping[str, object], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(f"{field} must be text, got {value!r}")
    return value


def _pair(row: object, num_grades: int) -> AnswerPair:
    if not isinstance(row, dict):
        raise DataError(f"must be an object, got {row!r}")
    grade, explanation, rule = row.get("grade"), row.get("explanation"), row.get("rule", "")
    if not isinstance(grade, int) or isinstance(grade, bool) or not 0 <= grade < num_grades:
        raise DataError(f"grade must be an integer 0 to {num_grades - 1}, got {grade!r}")
    if not isinstance(rule, str):
        raise DataError(f"rule must be text, got {rule!r}")
    gold = None if explanation is None else Explanation.from_json(explanation)
    if gold is not None and gold.verdict != grade:
        raise DataError(f"the explanation's verdict is {gold.verdict}, the grade is {grade}")
    return AnswerPair(_text(row, "query"), _text(row, "document"), grade, gold, rule)


def read_answers(path: Path, num_grades: int, *, explained: bool) -> list[AnswerPair]:
    """All rows of a file: query, document, grade, explanation (as `training.annotate` writes it), rule.

    Raises:
        DataError: names file, line and field; with `explained`, a row without explanation as well.
    """
    pairs: list[AnswerPair] = []
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                pair = _pair(json.loads(line), num_grades)
                if explained and pair.explanation is None:
                    raise DataError("no explanation (python -m training.annotate writes one)")
            except (ValueError, ExplanationError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error
            pairs.append(pair)
    if not pairs:
        raise DataError(f"{path}: no rows")
    return pairs


class AnswerCodec:
    """Encodes prompts and gold answers, reads sampled ones, for one spec, tokenizer and order."""

    def __init__(self, spec: ScoringSpec, tokenizer: TextTokenizer, end_id: int, order: Order = "grade_first") -> None:
        """`end_id` ends an answer; LabelTokenError if a grade is not one token of this tokenizer."""
        self.scale, self.order, self.end_id = spec.scale, order, end_id
        self._tokenizer = tokenizer
        self._encoder = spec.encoder(tokenizer)
        self.label_token_ids = spec.scale.resolve_label_token_ids(tokenizer)
        if end_id in self.label_token_ids:
            raise DataError(f"token {end_id} cannot both end an answer and spell a grade")
        self._grade_of = {token_id: grade for grade, token_id in enumerate(self.label_token_ids)}

    def prompt(self, pair: AnswerPair) -> list[int]:
        """Token ids of the prompt; the token that follows is the answer's first."""
        prefix = self._encoder.encode_prefix(pair.query)
        return [*prefix.ids, *self._encoder.encode_documents(prefix, [pair.document])[0].ids]

    def gold(self, pair: AnswerPair) -> list[int]:
        """Token ids of the gold answer, its end included; DataError if it needs an explanation the pair lacks."""
        grade = self.label_token_ids[pair.grade]
        if self.order == "grade_only":
            return [grade, self.end_id]
        if pair.explanation is None:
            raise DataError(f"no gold explanation for the query {pair.query[:40]!r}")
        # The blank belongs to the text: byte pair encodings merge it into the word behind it.
        text = self._tokenizer.encode_user_texts([" " + render(pair.explanation, self.scale)])[0]
        return [*text, grade, self.end_id] if self.order == "reason_first" else [grade, *text, self.end_id]

    def grade_position(self, pair: AnswerPair) -> int:
        """Index of the grade in `gold`."""
        return len(self.gold(pair)) - 2 if self.order == "reason_first" else 0

    def read(self, ids: Sequence[int]) -> Answer:
        """A sampled answer; what follows its end is not looked at."""
        ended = self.end_id in ids
        body = list(ids[: ids.index(self.end_id)]) if ended else list(ids)
        at = len(body) - 1 if self.order == "reason_first" else 0
        grade = self._grade_of.get(body[at]) if body else None
        text = self._tokenizer.decode([*body[:at], *body[at + 1 :]])
        return Answer(grade, text, ended, len(ids))

    def segments(self, ids: Sequence[int]) -> list[int]:
        """Index in `SEGMENTS` of the segment that gets credit for each token of a grade-first answer.

        The first token is the grade's whatever it is; a step has the tokens up to the one that closes it; what belongs
        to no step, the end above all, is the last segment's.
        """
        stop = ids.index(self.end_id) if self.end_id in ids else len(ids)
        body = list(ids[1:stop])
        found = [LAST] * len(ids)
        first = 0
        for name, _, end in steps(self._tokenizer.decode(body)):
            close = bisect_left(range(len(body)), end, key=lambda t: len(self._tokenizer.decode(body[: t + 1])))
            for token in range(first, min(close + 1, len(body))):
                found[1 + token] = SEGMENTS.index(name)
            first = close + 1
        if found:
            found[0] = GRADE
        return found
