"""The mean of checkpoints' weights."""

import json
from pathlib import Path

import pytest
import torch

from model_export.tiny import write_checkpoint
from modeling.loading import load_model
from relevance.spec import SPEC_FILE, ScoringSpec
from training.average import AverageError, average_weights, main


def two(tmp_path: Path) -> tuple[Path, Path]:
    """The tiny checkpoint, and it with other weights and temperature."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        write_checkpoint(folder)
    model = load_model(str(second))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    model.save_pretrained(second)
    ScoringSpec.from_file(second / SPEC_FILE).model_copy(update={"temperature": 2.0}).to_file(second / SPEC_FILE)
    return first, second


def test_every_weight_is_the_mean_and_the_temperature_is_to_be_fitted(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    (second / "training.json").write_text(json.dumps({"stage": "sft", "step": 7}))
    main([str(first), str(second), "--run", str(tmp_path / "mean")])
    mean = tmp_path / "mean" / "checkpoint"
    before, after = load_model(str(first)).state_dict(), load_model(str(mean)).state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        expected = value + 0.25 if value.is_floating_point() else value
        torch.testing.assert_close(after[name], expected)
    assert ScoringSpec.from_file(mean / SPEC_FILE).temperature == 1.0
    told = json.loads((mean / "training.json").read_text())
    assert (told["stage"], told["of"][1]) == ("average", {"stage": "sft", "step": 7})


def test_what_has_no_mean_is_refused_and_nothing_written(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    run = tmp_path / "mean"
    with pytest.raises(AverageError, match="two checkpoints or more, got 1"):
        main([str(first), "--run", str(run)])
    tokenizer = second / "tokenizer.json"
    whole = tokenizer.read_text()
    tokenizer.write_text(whole + " ")
    with pytest.raises(AverageError, match="another tokenizer"):
        main([str(first), str(second), "--run", str(run)])
    tokenizer.write_text(whole)
    spec = ScoringSpec.from_file(second / SPEC_FILE)
    limits = spec.limits.model_copy(update={"max_query_tokens": 5})
    spec.model_copy(update={"limits": limits}).to_file(second / SPEC_FILE)
    with pytest.raises(AverageError, match="another scoring spec"):
        main([str(first), str(second), "--run", str(run)])
    assert not run.exists()


def test_models_of_different_forms_are_refused(tmp_path: Path) -> None:
    first, second = (load_model(str(folder)) for folder in two(tmp_path))
    del second.label_head
    with pytest.raises(AverageError, match=r"another form than the first: label_head\.weight"):
        average_weights([first, second])
