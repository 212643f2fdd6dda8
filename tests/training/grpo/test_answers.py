"""Answers as tokens: gold ones, sampled ones, and which token belongs to which segment."""

import json
from pathlib import Path

import pytest

from model_export.tiny import write_checkpoint
from relevance.errors import LabelTokenError
from relevance.explanation import Explanation, render
from relevance.tokenization import JsonTokenizer
from tests.tokenizers import CharacterTokenizer
from tests.training.grpo.conftest import ROWS, SPEC
from training.data import DataError
from training.grpo.answers import AnswerCodec, AnswerPair, Order, read_answers
from training.rewards import SEGMENTS

GOLD = Explanation("usb cable", 2, 3, 3, 3, ("USB cable",), (), 2)
PAIR = AnswerPair("usb cable", "USB cable | black", 2, GOLD)
END = 4


class PlainDigits(CharacterTokenizer):
    """One token per character; the template's tokens are characters too."""


def codec(order: Order = "grade_first") -> AnswerCodec:
    return AnswerCodec(SPEC, PlainDigits(), END, order)


def test_gold_answers_in_every_order() -> None:
    text = [5 + ord(c) for c in " " + render(GOLD, SPEC.scale)]
    two = 5 + ord("2")
    assert codec().gold(PAIR) == [two, *text, END]
    assert codec("reason_first").gold(PAIR) == [*text, two, END]
    assert codec("grade_only").gold(PAIR) == [two, END]
    assert codec("reason_first").grade_position(PAIR) == len(text)


@pytest.mark.parametrize("order", ["grade_first", "reason_first"])
def test_reading_the_gold_answer_gives_it_back(order: Order) -> None:
    found = codec(order).read([*codec(order).gold(PAIR), 99, 99])
    assert (found.grade, found.ended) == (2, True)
    assert found.text.strip() == render(GOLD, SPEC.scale)


def test_an_answer_that_starts_with_no_grade_or_does_not_end() -> None:
    found = codec().read([5 + ord("x"), 5 + ord("2")])
    assert (found.grade, found.text, found.ended) == (None, "2", False)
    assert codec().read([END]).grade is None


def test_every_token_of_an_answer_belongs_to_the_step_it_writes() -> None:
    ids = codec().gold(PAIR)
    segments = codec().segments(ids)
    by_name: dict[str, str] = {}
    for token, segment in zip(ids[:-1], segments[:-1], strict=True):
        by_name[SEGMENTS[segment]] = by_name.get(SEGMENTS[segment], "") + chr(token - 5)
    assert by_name == {
        "grade": "2",
        "wants": " wants: usb cable |",
        "exactness": " exactness: 2 |",
        "coverage": " coverage: 3 |",
        "topicality": " topicality: 3 |",
        "context": " context: 3 |",
        "evidence": " evidence: < USB cable > |",
        "missing": " missing: none |",
        "verdict": " verdict: highly relevant |",
    }
    assert SEGMENTS[segments[-1]] == "end"


def test_what_is_no_step_is_the_ends() -> None:
    ids = [5 + ord(c) for c in "2 wants: a | nonsense"]
    assert [SEGMENTS[s] for s in codec().segments(ids)] == ["grade"] + ["wants"] * 11 + ["end"] * 9
    assert codec().segments([]) == []


def test_a_word_piece_tokenizer_gets_the_same_segments(base: Path) -> None:
    tokenizer = JsonTokenizer.from_file(base / "tokenizer.json")
    small = AnswerCodec(SPEC, tokenizer, tokenizer.encode_literal("[SEP]")[0])
    row = next(row for row in ROWS if row["explanation"]["evidence"])
    ids = small.gold(AnswerPair(row["query"], row["document"], row["grade"], Explanation.from_json(row["explanation"])))
    segments = small.segments(ids)
    assert sorted(segments) == segments
    assert set(segments) == set(range(len(SEGMENTS)))
    closing = [ids[t] for t in range(1, len(ids) - 1) if segments[t] != segments[t + 1]]
    assert closing == [tokenizer.encode_literal("|")[0]] * 8


def test_prompts_are_those_of_the_scoring_spec(base: Path) -> None:
    tokenizer = JsonTokenizer.from_file(base / "tokenizer.json")
    small = AnswerCodec(SPEC, tokenizer, tokenizer.encode_literal("[SEP]")[0])
    ids = small.prompt(AnswerPair("red kettle", "a [SEP] kettle", 0))
    assert ids.count(tokenizer.encode_literal("[SEP]")[0]) == 2  # the template's own: the document forges none


def test_labels_that_are_not_one_token(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny")
    grades = [grade.model_copy(update={"label": f"grade {i}"}) for i, grade in enumerate(SPEC.scale.grades)]
    spec = SPEC.model_copy(update={"scale": SPEC.scale.model_copy(update={"grades": tuple(grades)})})
    with pytest.raises(LabelTokenError, match="exactly one token"):
        AnswerCodec(spec, JsonTokenizer.from_file(tmp_path / "tiny" / "tokenizer.json"), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": None}, "query must be text"),
        ({"grade": 7}, "grade must be an integer 0 to 3"),
        ({"explanation": None}, "no explanation"),
        ({"explanation": {"wants": "x"}}, "explanation"),
        ({"rule": 3}, "rule must be text"),
        ({"grade": 1}, "verdict is 2, the grade is 1"),
    ],
)
def test_bad_rows_are_named_by_file_line_and_field(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = {"query": "a", "document": "b", "grade": 2, "explanation": GOLD.to_json()}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(DataError, match=rf"rows.jsonl, line 2: .*{message}"):
        read_answers(path, 4, explained=True)
