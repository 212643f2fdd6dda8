"""Labelled pairs: reading, checking, encoding, batching.

A row is `{"query", "document", "grade"}` or `{"query", "document", "distribution"}` (a soft label: one
probability per grade). It may carry an `explanation` (relevance.explanation; `training.annotate` writes it), which
becomes the rest of the answer. Other keys are ignored. A malformed row stops the run with file, line and field.
"""

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ExplanationError
from relevance.explanation import Explanation
from relevance.grades import GradeScale
from relevance.grammar import AnswerGrammar
from relevance.prompt import End, PromptEncoder
from relevance.tokenization import JsonTokenizer
from training.config import Source


class DataError(ValueError):
    """A data file that cannot be used; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A pair with the probability a judge gives each grade; a human grade is one-hot."""

    query: str
    document: str
    target: tuple[float, ...]
    explanation: Explanation | None = None

    @property
    def grade(self) -> int:
        """The likeliest grade."""
        return max(range(len(self.target)), key=self.target.__getitem__)


@dataclass(frozen=True, slots=True)
class Example:
    """An encoded pair: `ids` is the prompt, its first `prefix_length` tokens the prefix, its last the suffix.

    `answer` is the gold grade's token and the explanation behind it; empty where the grade alone is trained.
    """

    ids: tuple[int, ...]
    prefix_length: int
    target: tuple[float, ...]
    suffix_length: int = 1
    answer: tuple[int, ...] = ()
    document: tuple[int, int] = (0, 0)
    """Start and end of the document's own tokens in `ids`."""
    truncated: bool = False
    """Whether the document was cut, at its end."""

    @property
    def num_tokens(self) -> int:
        """Of prompt and answer."""
        return len(self.ids) + len(self.answer)

    @property
    def segments(self) -> list[int]:
        """The segment of each token of the prompt."""
        body = len(self.ids) - self.prefix_length - self.suffix_length
        return [0] * self.prefix_length + [1] * body + [2] * self.suffix_length


def open_lines(path: Path) -> IO[str]:
    """A text stream over a plain or gzipped file; DataError if there is none."""
    if not path.is_file():
        raise DataError(f"{path}: no such file (docs/training.md says where the data sets come from)")
    return (
        cast(IO[str], gzip.open(path, "rt", encoding="utf-8")) if path.suffix == ".gz" else path.open(encoding="utf-8")
    )


def _target(row: dict[str, object], num_grades: int) -> tuple[float, ...]:
    distribution, grade = row.get("distribution"), row.get("grade")
    if distribution is not None:
        if not isinstance(distribution, list) or len(distribution) != num_grades:
            raise ValueError(f"distribution must be a list of {num_grades} probabilities, got {distribution!r}")
        values = tuple(float(p) for p in distribution)
        if not all(p >= 0.0 for p in values) or abs(sum(values) - 1.0) > 1e-3:
            raise ValueError(f"distribution must be probabilities that sum to 1, got {distribution!r}")
        return values
    if not isinstance(grade, int) or isinstance(grade, bool) or not 0 <= grade < num_grades:
        raise ValueError(f"grade must be an integer 0 to {num_grades - 1}, got {grade!r}")
    return tuple(1.0 if index == grade else 0.0 for index in range(num_grades))


def read_pairs(path: Path, num_grades: int) -> list[LabelledPair]:
    """All rows of a labelled file.

    Raises:
        DataError: no file, a line that is not JSON, or a missing or bad field.
    """
    pairs: list[LabelledPair] = []
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                for field in ("query", "document"):
                    if not isinstance(row.get(field), str):
                        raise ValueError(f"{field} must be text, got {row.get(field)!r}")
                pairs.append(_pair(row, num_grades))
            except (ValueError, AttributeError, ExplanationError) as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    if not pairs:
        raise DataError(f"{path}: no rows")
    return pairs


def _pair(row: dict[str, Any], num_grades: int) -> LabelledPair:
    pair = LabelledPair(row["query"], row["document"], _target(row, num_grades))
    if row.get("explanation") is None:
        return pair
    explanation = Explanation.from_json(row["explanation"])
    if explanation.verdict != pair.grade:
        raise ValueError(f"explanation.verdict is {explanation.verdict}, the grade {pair.grade}")
    return replace(pair, explanation=explanation)


class AnswerEncoder:
    """Spells answers: the grade's token, then the explanation as a path of the grammar that decoding is held to.

    What that grammar has no path for is left out: a quote from the part of a document that was cut away, say.
    """

    def __init__(self, tokenizer: JsonTokenizer, scale: GradeScale) -> None:
        self._grammar = AnswerGrammar(tokenizer, scale)
        self._labels = scale.resolve_label_token_ids(tokenizer)

    @property
    def num_grades(self) -> int:
        """Of the scale."""
        return len(self._labels)

    def encode(self, pair: LabelledPair, document_ids: Sequence[int], *, truncated: bool) -> tuple[int, ...]:
        """The answer of a pair whose document stands as `document_ids` in its prompt; () if it has no explanation."""
        if pair.explanation is None:
            return ()
        kept: End | None = "start" if truncated else None
        paths = self._grammar.for_pair(pair.query, pair.document, document_ids, pair.grade, kept)
        return (self._labels[pair.grade], *paths.encode(pair.explanation))


def encode_pairs(
    pairs: Sequence[LabelledPair],
    encoder: PromptEncoder,
    instruction: str | None = None,
    max_document_tokens: int | None = None,
    answers: AnswerEncoder | None = None,
) -> list[Example]:
    """Encode `pairs` in order, with one `instruction` for all; documents are cut to `max_document_tokens`.

    With `answers`, pairs that have an explanation get their answer, unless prompt and answer exceed the prompt's limit:
    of those the grade alone is trained.
    """
    num_suffix = encoder.num_suffix_tokens
    by_query: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        by_query.setdefault(pair.query, []).append(index)
    examples: list[Example | None] = [None] * len(pairs)
    for query, indices in by_query.items():
        prefix = encoder.encode_prefix(query, instruction)
        documents = encoder.encode_documents(prefix, [pairs[i].document for i in indices], max_document_tokens)
        for index, document in zip(indices, documents, strict=True):
            answer: tuple[int, ...] = ()
            own = encoder.document_ids(document.ids)
            if answers is not None:
                answer = answers.encode(pairs[index], own, truncated=document.truncated)
            ids = (*prefix.ids, *document.ids)
            if len(ids) + len(answer) > encoder.max_tokens:
                answer = ()
            start = len(prefix.ids) + encoder.num_leading_tokens
            place = (start, start + len(own))
            examples[index] = Example(
                ids, len(prefix.ids), pairs[index].target, num_suffix, answer, place, document.truncated
            )
    return [example for example in examples if example is not None]


class SourcePool:
    """The encoded rows of one source, drawn without replacement over passes."""

    def __init__(self, source: Source, data_dir: Path, encoder: PromptEncoder, answers: AnswerEncoder) -> None:
        self._source = source
        pairs = read_pairs(data_dir / source.path, answers.num_grades)
        given = answers if source.explanation_rate > 0.0 else None
        self._plain = encode_pairs(pairs, encoder, None, source.max_document_tokens, given)
        self._instructed = (
            encode_pairs(pairs, encoder, source.instruction, source.max_document_tokens, given)
            if source.instruction is not None and source.instruction_rate > 0.0
            else self._plain
        )

    def draw(self, pass_index: int, seed: int) -> list[Example]:
        """The examples of one pass; a function of its arguments alone, so that a resumed run sees the same."""
        size = len(self._plain)
        count = round(size * self._source.repeat)
        order: list[int] = []
        start = pass_index * count
        for cycle in range(start // size, (start + count - 1) // size + 1):
            shuffled = list(range(size))
            random.Random(f"{seed}/{self._source.path}/{cycle}").shuffle(shuffled)
            order += shuffled[max(0, start - cycle * size) : start + count - cycle * size]
        coin = random.Random(f"{seed}/{self._source.path}/instruct/{pass_index}")
        rate, explained = self._source.instruction_rate, self._source.explanation_rate
        examples = [(self._instructed if coin.random() < rate else self._plain)[index] for index in order]
        return [e if coin.random() < explained else replace(e, answer=()) for e in examples] if explained else examples


def token_batches(examples: Sequence[Example], batch_tokens: int, rng: random.Random) -> Iterator[list[Example]]:
    """Batches of at most `batch_tokens` padded tokens (at least one example), similar lengths together."""
    keyed = sorted(examples, key=lambda example: (example.num_tokens, rng.random()))
    batches: list[list[Example]] = []
    batch: list[Example] = []
    for example in keyed:
        if batch and (len(batch) + 1) * example.num_tokens > batch_tokens:
            batches.append(batch)
            batch = []
        batch.append(example)
    if batch:
        batches.append(batch)
    rng.shuffle(batches)
    yield from batches


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Right-padded examples as arrays; B rows of L tokens."""

    input_ids: NDArray[np.int64]  # [B, L]
    segment_ids: NDArray[np.int64]  # [B, L], 0 prefix, 1 document, 2 suffix, 3 answer, -1 padding
    last: NDArray[np.int64]  # [B], index of the token the grade is read at
    target: NDArray[np.float32]  # [B, K]
    answer_rows: NDArray[np.int64]  # [T], the row of each explanation token,
    answer_columns: NDArray[np.int64]  # [T], the position it is predicted at,
    answer_targets: NDArray[np.int64]  # [T], and itself


def pad(batch: Sequence[Example]) -> PaddedBatch:
    """Right-pad a batch to its longest example."""
    width = max(example.num_tokens for example in batch)
    input_ids = np.zeros((len(batch), width), dtype=np.int64)
    segment_ids = np.full((len(batch), width), -1, dtype=np.int64)
    for row, example in enumerate(batch):
        input_ids[row, : len(example.ids)] = example.ids
        segment_ids[row, : example.prefix_length] = 0
        segment_ids[row, example.prefix_length : len(example.ids)] = 1
        segment_ids[row, len(example.ids) - example.suffix_length : len(example.ids)] = 2
        input_ids[row, len(example.ids) : example.num_tokens] = example.answer
        segment_ids[row, len(example.ids) : example.num_tokens] = 3
    last = np.array([len(example.ids) - 1 for example in batch], dtype=np.int64)
    target = np.array([example.target for example in batch], dtype=np.float32)
    explained = [(row, example) for row, example in enumerate(batch) if example.answer]
    places = [(row, len(e.ids) + i, token) for row, e in explained for i, token in enumerate(e.answer[1:])]
    rows, columns, tokens = np.array(places, dtype=np.int64).reshape(-1, 3).T
    return PaddedBatch(input_ids, segment_ids, last, target, rows, columns, tokens)
