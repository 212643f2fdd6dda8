"""The whole training path on a tiny model: it learns, resumes where it stopped, calibrates and exports."""

import json
from pathlib import Path

import pytest
import torch

from modeling.loading import load_model
from relevance.spec import SPEC_FILE, ScoringSpec
from training import calibrate
from training.config import SftConfig, Source
from training.sft import SftRun


def config(tiny_checkpoint: Path, **changes: object) -> SftConfig:
    fields: dict[str, object] = {
        "base_model": str(tiny_checkpoint),
        "spec": str(tiny_checkpoint / SPEC_FILE),
        "sources": (Source(path="train.jsonl.gz", instruction="shop", instruction_rate=0.2), Source(path="soft.jsonl")),
        "validation": ("val.jsonl.gz",),
        "num_passes": 2,
        "batch_tokens": 256,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "evaluate_every": 1000,
        "checkpoint_every": 5,
        "freeze_embeddings": False,
        "precision": "float32",
        **changes,
    }
    return SftConfig.model_validate(fields)


def weights(run: SftRun) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in run.model.parameters()]


def events(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_stopped_run_goes_on_to_the_same_weights(tiny_checkpoint: Path, data_dir: Path, tmp_path: Path) -> None:
    settings = config(tiny_checkpoint, dropout=0.1)
    whole = SftRun(settings, data_dir, tmp_path / "whole")
    whole.train(max_steps=8)
    first = SftRun(settings, data_dir, tmp_path / "pieces")
    assert first.train(max_steps=3) == 3
    second = SftRun(settings, data_dir, tmp_path / "pieces")
    assert second.train(max_steps=5) == 8
    for left, right in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(left, right)
    losses = [[event["loss"] for event in events(tmp_path / name, "step")] for name in ("whole", "pieces")]
    assert losses[0] == losses[1]


def test_another_configuration_does_not_resume_a_run(tiny_checkpoint: Path, data_dir: Path, tmp_path: Path) -> None:
    SftRun(config(tiny_checkpoint), data_dir, tmp_path).train(max_steps=1)
    other = SftRun(config(tiny_checkpoint, learning_rate=1e-3), data_dir, tmp_path)
    with pytest.raises(ValueError, match="holds a run of another configuration"):
        other.train(max_steps=1)


def test_it_learns_and_calibrates(
    tiny_checkpoint: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SftRun(config(tiny_checkpoint, num_passes=12), data_dir, tmp_path)
    run.train()
    losses = [event["loss"] for event in events(tmp_path, "step")]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    (validation,) = events(tmp_path, "validation")
    assert validation["accuracy"] > 0.6  # the majority grade is about half

    checkpoint = tmp_path / "checkpoint"
    capsys.readouterr()
    calibrate.main([str(checkpoint), "--data-dir", str(data_dir), "--data", "val.jsonl.gz"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ScoringSpec.from_file(checkpoint / SPEC_FILE).temperature == report["temperature"] != 1.0
    assert report["num_pairs"] == 60


def test_joint_layers_are_trained_the_encoder_stays_and_answers_are_learnt(
    tiny_checkpoint: Path, data_dir: Path, tmp_path: Path
) -> None:
    rows = [
        {"query": "usb cable", "document": text, "grade": 3 * (text != "an egg"), "explanation": explanation(text)}
        for text in ("the usb cable", "an egg")
    ]
    (tmp_path / "explained.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 20))
    spec = ScoringSpec.from_file(tiny_checkpoint / SPEC_FILE).model_copy(update={"attention": "late"})
    spec.to_file(tmp_path / "spec.json")
    settings = config(
        tiny_checkpoint,
        spec=str(tmp_path / "spec.json"),
        joint_from=1,
        encoder_rate=0.0,
        sources=(Source(path="explained.jsonl", explanation_rate=1.0),),
        validation=(),
        num_passes=16,
        batch_tokens=512,
        explanation_weight=1.0,
    )
    run = SftRun(settings, tmp_path, tmp_path / "run")
    before = run.model.bert.encoder.layer[0].output.dense.weight.detach().clone()
    run.train()
    assert torch.equal(run.model.bert.encoder.layer[0].output.dense.weight, before)
    losses = [event["explanation_loss"] for event in events(tmp_path / "run", "step")]
    assert losses[-1] < 0.8 * losses[0]
    again = load_model(str(tmp_path / "run" / "checkpoint"))
    assert torch.equal(again.comparison.weight, run.model.comparison.weight)


def explanation(document: str) -> dict[str, object]:
    verdict = 3 * (document != "an egg")
    criteria = dict.fromkeys(("exactness", "coverage", "topicality", "context"), verdict)
    return {"wants": "usb cable", **criteria, "evidence": [document], "missing": [], "verdict": verdict}
