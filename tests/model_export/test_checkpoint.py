"""Everything that must be refused before the slow work, each by a copy of a good checkpoint with one fault."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model_export.checkpoint import TRAINING_FILE, Checkpoint, load_checkpoint
from model_export.errors import ExportError
from relevance.spec import SPEC_FILE


@pytest.fixture
def copy(bert_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert_folder, tmp_path / "copy")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, name: str, value: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    assert name in weights
    weights.pop(name)
    save_file(weights if value is None else {**weights, name: value}, folder / "model.safetensors")


def test_a_good_checkpoint_loads(bert: Checkpoint) -> None:
    assert bert.name == "bert-tiny"
    assert bert.architecture == "bert"
    assert len(set(bert.label_token_ids)) == 4
    assert bert.training == {}


def test_training_record_and_weights_hash(copy: Path, bert: Checkpoint) -> None:
    (copy / TRAINING_FILE).write_text('{"steps": 7}')
    loaded = load_checkpoint(str(copy))
    assert loaded.training == {"steps": 7}
    assert loaded.sha256 == bert.sha256
    bias = load_file(copy / "model.safetensors")["cls.predictions.bias"]
    edit_weights(copy, "cls.predictions.bias", bias + 1.0)
    assert load_checkpoint(str(copy)).sha256 != bert.sha256


def test_a_spec_on_the_command_line_overrides_the_checkpoints_own(copy: Path, tmp_path: Path) -> None:
    spec = json.loads((copy / SPEC_FILE).read_text())
    spec["temperature"] = 2.5
    (tmp_path / "other.json").write_text(json.dumps(spec))
    assert load_checkpoint(str(copy), str(tmp_path / "other.json")).spec.temperature == 2.5


def test_no_such_folder_and_no_such_hub_id() -> None:
    with pytest.raises(ExportError, match="neither a folder nor"):
        load_checkpoint("./not/a/folder/at/all")


def test_unknown_architecture(copy: Path) -> None:
    edit(copy / "config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"])
    with pytest.raises(ExportError, match="'gpt2' is not known here, only bert, late_bert, qwen3"):
        load_checkpoint(str(copy))


def test_an_encoder_without_a_head(copy: Path) -> None:
    edit(copy / "config.json", architectures=["BertModel"])
    with pytest.raises(ExportError, match="without a vocabulary head"):
        load_checkpoint(str(copy))


def test_a_model_made_for_other_grade_tokens(late_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(late_folder, tmp_path / "copy")
    found = json.loads((copy / "config.json").read_text())["label_token_ids"]
    edit(copy / "config.json", label_token_ids=found[::-1])
    with pytest.raises(ExportError, match="the model was made for grades spelt"):
        load_checkpoint(str(copy))


def test_unknown_preset(copy: Path) -> None:
    with pytest.raises(ExportError, match="no scoring spec named 'nothing'"):
        load_checkpoint(str(copy), "nothing")


def test_a_label_of_several_tokens(copy: Path) -> None:
    spec = json.loads((copy / SPEC_FILE).read_text())
    spec["scale"]["grades"][2]["label"] = "2 3"
    edit(copy / SPEC_FILE, scale=spec["scale"])
    with pytest.raises(ExportError, match="must be exactly one token"):
        load_checkpoint(str(copy))


def test_limits_beyond_the_models_positions(copy: Path) -> None:
    limits = json.loads((copy / SPEC_FILE).read_text())["limits"]
    edit(copy / SPEC_FILE, limits=limits | {"max_tokens": 300})
    with pytest.raises(ExportError, match="300 is beyond the model's 256 positions"):
        load_checkpoint(str(copy))


def test_a_weight_that_is_not_a_number(copy: Path) -> None:
    name = "bert.encoder.layer.1.output.dense.bias"
    edit_weights(copy, name, torch.full((32,), float("nan")))
    with pytest.raises(ExportError, match=name):
        load_checkpoint(str(copy))


def test_a_missing_weight_is_not_filled_with_noise(copy: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.bias"
    edit_weights(copy, name, None)
    with pytest.raises(ExportError, match=name):
        load_checkpoint(str(copy))


def test_a_training_record_that_is_no_object(copy: Path) -> None:
    (copy / TRAINING_FILE).write_text("[]")
    with pytest.raises(ExportError, match="must be an object"):
        load_checkpoint(str(copy))


def test_an_attention_pattern_the_graph_cannot_do(qwen_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(qwen_folder, tmp_path / "copy")
    edit(copy / SPEC_FILE, attention="segment")
    with pytest.raises(ExportError, match="the qwen3 graph's is causal"):
        load_checkpoint(str(copy))
