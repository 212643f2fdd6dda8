"""Figures of explanations, by hand and of a tiny checkpoint."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from relevance.explanation import Explanation, render
from relevance.spec import ScoringSpec
from training.annotate import annotate_file
from training.data import LabelledPair, encode_pairs
from training.explanation_figures import Explained, measure_explanations
from training.explanations import MAX_FREE_TOKENS, ExplainingCheckpoint, grow_freely, main

SCALE = ScoringSpec.preset("minilm-grades").scale
QUERY, DOCUMENT = "usb cable red", "A USB cable, black"


def explained(grade: int = 2, judged: tuple[int, ...] | None = None, **fields: Any) -> Explained:
    given: dict[str, Any] = {
        "wants": "x", "exactness": 1, "coverage": 1, "topicality": 1, "context": 1,
        "evidence": ("USB cable",), "missing": ("red",), "verdict": 2,
    }  # fmt: skip
    text = render(Explanation(**{**given, **fields}), SCALE)
    return Explained(QUERY, DOCUMENT, grade, text, 10, judged)


def test_figures_by_hand() -> None:
    figures = measure_explanations(
        [
            explained(),
            explained(verdict=1),
            explained(evidence=("USB cable", "red cable"), missing=("red", "cable")),
            explained(evidence=(), missing=()),
            Explained(QUERY, DOCUMENT, 2, "wants: x | exactness: 9 | ", 20),
        ],
        SCALE,
    )
    assert figures == {
        "num_pairs": 5,
        "parsed": 0.8,
        "verdict_is_grade": 0.6,
        "holds": 0.4,
        "with_evidence": 0.75,
        "quotes_found": 0.75,
        "terms_missing": 0.75,
        "mean_tokens": 12.0,
        "criteria_kappa": None,
        "failed_steps": {"coverage": 1},
    }


def test_criteria_are_compared_with_a_judges() -> None:
    found = measure_explanations(
        [
            explained(judged=(0, 1, 1, 0), exactness=0, context=3),
            explained(judged=(3, 1, 0, 3), exactness=3, topicality=0, context=0),
            explained(exactness=2),  # nobody judged it
        ],
        SCALE,
    )
    assert found["criteria_kappa"] == {"exactness": 1.0, "coverage": 0.0, "topicality": 1.0, "context": -1.0}


def test_nothing_readable_has_no_shares() -> None:
    found = measure_explanations([Explained(QUERY, DOCUMENT, 2, "", 0)], SCALE)
    assert (found["parsed"], found["quotes_found"], found["with_evidence"]) == (0.0, None, None)
    assert found["failed_steps"] == {"wants": 1}


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotated")
    criteria = {"exactness": 1, "coverage": 2, "topicality": 3, "contextual_fit": 0}
    rows = [
        {"query": QUERY, "document": f"{DOCUMENT} number {number}", "grade": number % 4, "criteria": criteria}
        for number in range(5)
    ]
    (folder / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotate_file(folder / "plain.jsonl", folder / "rows.jsonl", 4)
    return folder / "rows.jsonl"


def test_a_checkpoint_is_evaluated_both_ways(tiny_checkpoint: Path, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    checkpoint, data = str(tiny_checkpoint), str(annotated)
    assert main([checkpoint, "--data", data, "--teacher", checkpoint, "--rows", "3", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"][f"{annotated.parent.name}/rows"]
    for figure in ("parsed", "verdict_is_grade", "holds"):
        assert figures["grammar"][figure] == 1.0
        assert figures["free"][figure] == 0.0  # random weights
    assert figures["grammar"]["num_pairs"] == 3
    assert set(figures["grammar"]["criteria_kappa"]) == {"exactness", "coverage", "topicality", "context"}
    assert figures["free"]["mean_tokens"] > figures["grammar"]["mean_tokens"]
    assert all(math.isfinite(figures[way]["perplexity"]) for way in ("grammar", "free"))
    assert math.isfinite(figures["gold_perplexity"])


def biased(checkpoint: ExplainingCheckpoint, text: str | None) -> ExplainingCheckpoint:
    """Its head says the same everywhere: the token of `text`, or nothing in particular."""
    head = checkpoint.scorer.model.cls.predictions
    with torch.no_grad():
        head.transform.LayerNorm.weight.zero_()
        head.transform.LayerNorm.bias.zero_()
        head.bias.zero_()
        if text is not None:
            head.bias[checkpoint.tokenizer.encode_literal(text)[0]] = 5.0
    return checkpoint


def examples_of(checkpoint: ExplainingCheckpoint) -> list[Any]:
    target = (1.0, 0.0, 0.0, 0.0)
    return encode_pairs([LabelledPair(QUERY, d, target) for d in (DOCUMENT, "x")], checkpoint.encoder)


def test_free_decoding_ends_with_the_last_step(tiny_checkpoint: Path) -> None:
    checkpoint = biased(ExplainingCheckpoint(tiny_checkpoint), "|")
    (bar,) = checkpoint.tokenizer.encode_literal("|")
    assert checkpoint.explain_freely(examples_of(checkpoint), [0, 3]) == [[bar] * 8] * 2
    checkpoint = biased(checkpoint, "red")
    assert [len(ids) for ids in checkpoint.explain_freely(examples_of(checkpoint), [0, 3])] == [MAX_FREE_TOKENS] * 2


def test_each_row_of_a_batch_ends_by_itself() -> None:
    steps: list[list[int]] = []

    def step(tokens: Sequence[int]) -> list[int]:
        steps.append(list(tokens))
        return [1, len(steps) % 2]  # the second row closes a step with every other token

    assert grow_freely(step, [7, 8], int) == [[1] * 8, [1, 0] * 7 + [1]]
    assert steps[:2] == [[7, 8], [1, 1]]
    assert len(steps) == 15


def test_perplexity_of_a_teacher_that_knows_nothing_is_the_size_of_its_vocabulary(tiny_checkpoint: Path) -> None:
    checkpoint = biased(ExplainingCheckpoint(tiny_checkpoint), None)
    texts = [explained(), Explained(QUERY, "another", 1, "red cable", 2)]
    assert checkpoint.perplexity(texts) == pytest.approx(checkpoint.tokenizer.vocab_size, rel=1e-5)
    bar = biased(checkpoint, "red")
    size = checkpoint.tokenizer.vocab_size
    likely = math.log(math.exp(5.0) + size - 1) - 5.0  # one token of the second text, out of two
    assert bar.perplexity(texts[1:]) == pytest.approx(math.exp((2 * likely + 5.0) / 2), rel=1e-4)


def test_free_decoding_is_greedy(tiny_checkpoint: Path) -> None:
    checkpoint = ExplainingCheckpoint(tiny_checkpoint)
    examples = examples_of(checkpoint)
    found = checkpoint.explain_freely(examples, [1, 2])
    for example, grade, ids in zip(examples, (1, 2), found, strict=True):
        answer = (checkpoint.labels[grade], *ids[:6])
        whole = type(example)(example.ids, example.prefix_length, example.target, example.suffix_length, answer)
        assert checkpoint.scorer.forward([whole]).explanation.argmax(-1).tolist() == ids[:6]


def test_what_cannot_be_used_is_named(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--data", "x"]) == 2
    assert "error: " in capsys.readouterr().err
    assert main([str(tiny_checkpoint), "--data", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    (other / "config.json").write_text('{"model_type": "nothing known"}')
    assert main([str(other), "--data", "x"]) == 2
    assert f"error: {other}: " in capsys.readouterr().err
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"query": "a", "document": "b", "grade": 0, "explanation": {"wants": 1}}) + "\n")
    assert main([str(tiny_checkpoint), "--data", str(bad), "--teacher", str(tiny_checkpoint)]) == 2
    assert "explanation: must be an object" in capsys.readouterr().err
