"""A teacher's file: every row usable by the student, explanations that hold, no row twice after a kill."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from model_export.tiny import make_tokenizer, write_checkpoint
from relevance.explanation import check
from training import distill
from training.data import DataError, read_pairs


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "checkpoint"
    write_checkpoint(folder)
    return folder


@pytest.fixture
def pairs_dir(tmp_path: Path) -> Path:
    rows = [{"query": f"usb cable {i}", "document": f"A red USB cable, {i % 7} m, for a laptop."} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(teacher: Path, folder: Path, rows: int, out: str) -> Path:
    arguments = ["--teacher", str(teacher), "--data-dir", str(folder), "--pairs", "pairs.jsonl"]
    distill.main([*arguments, "--rows", str(rows), "--explained", "12", "--out", str(folder / out)])
    return folder / out


def test_rows_are_soft_labels_and_explanations_that_hold(teacher: Path, pairs_dir: Path) -> None:
    pairs = read_pairs(run(teacher, pairs_dir, 30, "out.jsonl"), 4)
    assert len(pairs) == len({(p.query, p.document) for p in pairs}) == 30
    assert len({pair.target for pair in pairs}) > 10
    explained = [pair for pair in pairs if pair.explanation is not None]
    assert len(explained) == 12
    for pair in explained:
        assert pair.explanation is not None
        assert check(pair.explanation, pair.query, pair.document, pair.grade) == []


def test_a_killed_run_goes_on_without_writing_a_row_twice(
    teacher: Path, pairs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "CHUNK", 8)
    whole = run(teacher, pairs_dir, 30, "whole.jsonl").read_text().splitlines()
    part = pairs_dir / "again.jsonl.part"
    part.write_text("\n".join(whole[:16]) + "\n" + whole[16][:20])
    again = run(teacher, pairs_dir, 30, "again.jsonl").read_text().splitlines()
    assert again == whole
    assert not part.exists()


def test_more_rows_than_there_are_and_rows_without_text(teacher: Path, pairs_dir: Path) -> None:
    with pytest.raises(DataError, match="41 rows asked for, the files hold 40 different pairs"):
        run(teacher, pairs_dir, 41, "out.jsonl")
    (pairs_dir / "pairs.jsonl").write_text('{"query": "a"}\n')
    with pytest.raises(DataError, match="line 1: needs query and document"):
        run(teacher, pairs_dir, 1, "out.jsonl")
    assert not (pairs_dir / "out.jsonl").exists()


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cross_encoder")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.5,
        num_labels=4,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_cross_encoder_teaches_grades(cross_encoder: Path, pairs_dir: Path) -> None:
    arguments = ["--teacher", str(cross_encoder), "--data-dir", str(pairs_dir), "--pairs", "pairs.jsonl"]
    distill.main([*arguments, "--rows", "20", "--temperature", "2", "--out", str(pairs_dir / "out.jsonl")])
    pairs = read_pairs(pairs_dir / "out.jsonl", 4)
    model = BertForSequenceClassification.from_pretrained(cross_encoder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(cross_encoder)
    for pair in pairs:  # one by one, in float32: order and padding of the batch must not matter
        encoded = tokenizer([pair.query], [pair.document], return_tensors="pt")
        with torch.inference_mode():
            expected = torch.softmax(model(**encoded).logits[0] / 2, -1).tolist()
        assert pair.target == pytest.approx(expected, abs=0.02)
    assert len({pair.target for pair in pairs}) > 10


@pytest.mark.parametrize(
    ("which", "options", "message"),
    [
        ("cross_encoder", [], "--temperature: a cross-encoder needs one"),
        ("cross_encoder", ["--temperature", "1", "--explained", "2"], "--explained: a cross-encoder explains nothing"),
        ("teacher", ["--temperature", "1"], "any other teacher has its own"),
    ],
)
def test_what_a_kind_of_teacher_cannot_do_is_said(
    which: str, options: list[str], message: str, pairs_dir: Path, request: pytest.FixtureRequest
) -> None:
    arguments = ["--teacher", str(request.getfixturevalue(which)), "--data-dir", str(pairs_dir)]
    with pytest.raises(DataError, match=message):
        distill.main(
            [*arguments, "--pairs", "pairs.jsonl", "--rows", "5", *options, "--out", str(pairs_dir / "o.jsonl")]
        )
    assert not (pairs_dir / "o.jsonl").exists()
