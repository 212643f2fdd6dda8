import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.tiny import make_tokenizer
from relevance.explanation import parse
from relevance.prompt import PromptEncoder, PromptLimits, PromptTemplate
from relevance.spec import ScoringSpec
from relevance.tokenization import JsonTokenizer
from tests.tokenizers import CharacterTokenizer
from training.config import ConfigError, SftConfig, SimilarityConfig, Source
from training.data import (
    AnswerEncoder,
    DataError,
    Example,
    LabelledPair,
    SourcePool,
    encode_pairs,
    pad,
    read_pairs,
    token_batches,
)

TEMPLATE = PromptTemplate(
    name="t",
    prefix="<s>",
    instruction="{instruction}|",
    query="{query}|",
    document="<doc>{document}",
    suffix="<ans>",
)
ENCODER = PromptEncoder(
    TEMPLATE, CharacterTokenizer(), PromptLimits(max_tokens=120, max_query_tokens=20, max_instruction_tokens=20)
)


TOKENIZER = JsonTokenizer(make_tokenizer().to_str())
SCALE = ScoringSpec.preset("minilm-late").scale
ANSWERS = AnswerEncoder(TOKENIZER, SCALE)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_reads_grades_and_soft_labels(data_dir: Path) -> None:
    hard = read_pairs(data_dir / "train.jsonl.gz", 4)
    assert len(hard) == 200
    assert {pair.target for pair in hard} == {(1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)}
    soft = read_pairs(data_dir / "soft.jsonl", 4)
    assert soft[0].target == (0.7, 0.2, 0.1, 0.0)
    assert soft[0].grade == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"query": "a", "document": "b"}', "grade must be an integer 0 to 3, got None"),
        ('{"query": "a", "document": "b", "grade": 4}', "grade must be an integer 0 to 3, got 4"),
        ('{"query": "a", "document": "b", "grade": "3"}', "grade must be"),
        ('{"query": "a", "document": "b", "grade": true}', "grade must be"),
        ('{"query": 1, "document": "b", "grade": 1}', "query must be text, got 1"),
        ('{"query": "a", "grade": 1}', "document must be text, got None"),
        ('{"query": "a", "document": "b", "distribution": [0.5, 0.5]}', "a list of 4 probabilities"),
        ('{"query": "a", "document": "b", "distribution": [0.9, 0.9, 0, 0]}', "sum to 1"),
        ("not json", "Expecting value"),
        ("[]", "list"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(tmp_path: Path, line: str, reason: str) -> None:
    path = write(tmp_path / "x.jsonl", '{"query": "a", "document": "b", "grade": 1}', line)
    with pytest.raises(DataError, match=rf"x\.jsonl, line 2: .*{reason}"):
        read_pairs(path, 4)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        read_pairs(tmp_path / "nowhere.jsonl", 4)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="no rows"):
        read_pairs(tmp_path / "empty.jsonl", 4)


def test_examples_are_the_rendered_prompts_in_order() -> None:
    pairs = [LabelledPair(q, d, (1.0, 0.0)) for q, d in (("a", "x"), ("bb", "y"), ("a", "z"))]
    examples = encode_pairs(pairs, ENCODER, "i")
    decode = CharacterTokenizer().decode
    assert [decode(e.ids) for e in examples] == ["<s>i|a|<doc>x<ans>", "<s>i|bb|<doc>y<ans>", "<s>i|a|<doc>z<ans>"]
    assert [decode(e.ids[: e.prefix_length]) for e in examples] == ["<s>i|a|", "<s>i|bb|", "<s>i|a|"]


@pytest.mark.parametrize("repeat", [0.3, 1.0, 2.5])
def test_draws_cover_a_source_evenly_over_passes(data_dir: Path, repeat: float) -> None:
    pool = SourcePool(Source(path="soft.jsonl", repeat=repeat), data_dir, ENCODER, ANSWERS)
    size = 6
    drawn = [example for i in range(20) for example in pool.draw(i, seed=1)]
    assert len(drawn) == 20 * round(size * repeat)
    counts = Counter(example.ids for example in drawn)
    assert len(counts) == size
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_draw_depends_on_pass_and_seed_alone(data_dir: Path) -> None:
    source = Source(path="train.jsonl.gz", repeat=0.5, instruction="shop", instruction_rate=0.5)
    first, second = (SourcePool(source, data_dir, ENCODER, ANSWERS) for _ in range(2))
    assert first.draw(1, seed=1) == second.draw(1, seed=1)
    assert first.draw(1, seed=1) != first.draw(2, seed=1)
    assert first.draw(1, seed=1) != first.draw(1, seed=2)
    instructed = sum("shop|" in CharacterTokenizer().decode(e.ids) for e in first.draw(0, seed=1))
    assert 30 < instructed < 70


@given(st.lists(st.integers(1, 40), min_size=1, max_size=50), st.integers(10, 120))
def test_batches_hold_every_example_once_within_budget(lengths: list[int], budget: int) -> None:
    examples = [Example((index,) * length, 1, (1.0, 0.0)) for index, length in enumerate(lengths)]
    batches = list(token_batches(examples, budget, random.Random(0)))
    assert sorted(e.ids[0] for batch in batches for e in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(e.ids) for e in batch) <= budget


def test_padding_by_hand() -> None:
    padded = pad([Example((7, 8, 9, 4), 2, (1.0, 0.0)), Example((5, 6, 4), 1, (0.0, 1.0))])
    assert padded.input_ids.tolist() == [[7, 8, 9, 4], [5, 6, 4, 0]]
    assert padded.segment_ids.tolist() == [[0, 0, 1, 2], [0, 1, 2, -1]]
    assert padded.last.tolist() == [3, 2]
    np.testing.assert_array_equal(padded.target, [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("base_model = 'x'", "sources: Field required"),
        ("base_model = 'x'\nsources = [{path = 'a'}]\nlearning_rat = 1.0", "learning_rat: Extra inputs"),
        ("base_model = 'x'\nsources = [{path = 'a', repeat = 0.0}]", r"sources\.0\.repeat"),
        ("base_model = ", "not TOML"),
    ],
)
def test_a_bad_config_names_its_field(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SftConfig.from_toml(write(tmp_path / "c.toml", text))


def test_shipped_configs_are_valid() -> None:
    root = Path(__file__).parents[2] / "configs" / "training"
    for name in ("default_start", "default", "teacher", "teacher_taught"):
        assert SftConfig.from_toml(root / f"{name}.toml").sources
    assert SimilarityConfig.from_toml(root / "similarity.toml").sources


EXPLAINED = {
    "query": "usb cable 2 m",
    "document": "A red USB cable.",
    "grade": 1,
    "explanation": {
        "wants": "usb cable 2 m",
        **dict.fromkeys(("exactness", "coverage", "topicality", "context"), 1),
        "evidence": ["USB cable"],
        "missing": ["2"],
        "verdict": 1,
    },
}


def test_an_answer_is_the_grade_and_the_explanation(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", json.dumps(EXPLAINED), json.dumps({**EXPLAINED, "explanation": None}))
    pool = SourcePool(Source(path="x.jsonl", explanation_rate=1.0), tmp_path, ENCODER, ANSWERS)
    with_answer, without = sorted(pool.draw(0, seed=1), key=lambda example: -len(example.answer))
    assert without.answer == ()
    assert with_answer.answer[0] == SCALE.resolve_label_token_ids(TOKENIZER)[1]
    found = parse(TOKENIZER.decode(with_answer.answer[1:]), SCALE)
    assert found.verdict == 1
    assert found.missing == ("2",)
    assert with_answer.num_tokens == len(with_answer.ids) + len(with_answer.answer)
    grades_only = SourcePool(Source(path="x.jsonl"), tmp_path, ENCODER, ANSWERS)
    assert not any(example.answer for example in grades_only.draw(0, seed=1))


def test_an_answer_that_does_not_fit_behind_its_prompt_is_left_out(tmp_path: Path) -> None:
    short = {**EXPLAINED, "explanation": {**EXPLAINED["explanation"], "missing": []}}  # type: ignore[dict-item]
    long = {**short, "document": "A red USB cable. " + "It is red. " * 6}
    write(tmp_path / "x.jsonl", json.dumps(short), json.dumps(long))
    limits = PromptLimits(max_tokens=150, max_query_tokens=20, max_instruction_tokens=20)
    encoder = PromptEncoder(TEMPLATE, CharacterTokenizer(), limits)
    pool = SourcePool(Source(path="x.jsonl", explanation_rate=1.0), tmp_path, encoder, ANSWERS)
    fits, grade_alone = sorted(pool.draw(0, seed=1), key=lambda example: len(example.ids))
    assert fits.answer
    assert fits.num_tokens <= 150
    assert grade_alone.answer == ()


def test_explanation_tokens_are_predicted_one_place_before_them() -> None:
    padded = pad([Example((5, 6, 7), 1, (1.0,)), Example((5, 8), 1, (1.0,), 1, (20, 21, 22))])
    assert padded.input_ids.tolist() == [[5, 6, 7, 0, 0], [5, 8, 20, 21, 22]]
    assert padded.segment_ids.tolist() == [[0, 1, 2, -1, -1], [0, 2, 3, 3, 3]]
    assert padded.last.tolist() == [2, 1]
    assert list(zip(padded.answer_rows, padded.answer_columns, padded.answer_targets, strict=True)) == [
        (1, 2, 21),
        (1, 3, 22),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdict": 2}, "explanation.verdict is 2, the grade 1"),
        ({"exactness": 4}, "exactness"),
        ({"more": 1}, "object"),
    ],
)
def test_a_bad_explanation_is_named(tmp_path: Path, change: dict[str, int], reason: str) -> None:
    row = {**EXPLAINED, "explanation": {**EXPLAINED["explanation"], **change}}  # type: ignore[dict-item]
    path = write(tmp_path / "x.jsonl", json.dumps(row))
    with pytest.raises(DataError, match=rf"x\.jsonl, line 1: .*{reason}"):
        read_pairs(path, 4)


def test_a_quote_may_not_be_made_of_the_templates_words(tmp_path: Path) -> None:
    row = {**EXPLAINED, "explanation": {**EXPLAINED["explanation"], "evidence": ["USB cable"]}}  # type: ignore[dict-item]
    pairs = read_pairs(write(tmp_path / "x.jsonl", json.dumps(row)), 4)
    template = PromptTemplate(
        name="t", prefix="<s>", query="{query}|", document="Document: {document} end", suffix="<ans>"
    )
    encoder = PromptEncoder(template, CharacterTokenizer(), PromptLimits(max_tokens=120, max_query_tokens=20))
    (example,) = encode_pairs(pairs, encoder)
    assert CharacterTokenizer().decode(example.ids[slice(*example.document)]).strip() == "A red USB cable."
