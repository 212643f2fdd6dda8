"""Checkpoints small enough to export in a second; made once a session."""

from dataclasses import replace
from pathlib import Path

import pytest

from model_export.checkpoint import Checkpoint, load_checkpoint
from model_export.parity import DEFAULT_THRESHOLDS
from model_export.publish import ExportOptions, export
from model_export.random_checkpoint import write_checkpoint as write_qwen
from model_export.tiny import write_checkpoint
from relevance.artifact import Artifact, Precision, load_artifact
from relevance.spec import SPEC_FILE, ScoringSpec


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "bert-tiny"
    write_checkpoint(folder, is_late=False)
    return folder


@pytest.fixture(scope="session")
def late_folder(bert_folder: Path) -> Path:
    folder = bert_folder.with_name("late-tiny")
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def bert(bert_folder: Path) -> Checkpoint:
    return load_checkpoint(str(bert_folder))


@pytest.fixture(scope="session")
def qwen_folder(bert_folder: Path) -> Path:
    """The Qwen3 shape over the tiny WordPiece vocabulary: the graph does not care which tokenizer feeds it."""
    folder = bert_folder.with_name("qwen-tiny")
    write_qwen(folder, "qwen3-tiny", bert_folder / "tokenizer.json")
    spec = ScoringSpec.from_file(bert_folder / SPEC_FILE)
    spec.model_copy(update={"attention": "causal"}).to_file(folder / SPEC_FILE)
    return folder


# Random weights make values far smaller than a trained encoder's, beside which the fixed grid of exact attention sums
# is coarse, and scores so close that their order is rounding noise.
THRESHOLDS = {
    **DEFAULT_THRESHOLDS,
    "int8": replace(DEFAULT_THRESHOLDS["int8"], kendall_tau=0.9),
    "int4": replace(DEFAULT_THRESHOLDS["int4"], max_difference=0.6, kendall_tau=0.3),
}


def publish(checkpoint: Path, out: Path, precision: Precision) -> Path:
    export(ExportOptions(str(checkpoint), out, precision, "python -m model_export", THRESHOLDS))
    return out


@pytest.fixture(scope="session")
def bert_fp32(bert_folder: Path) -> Path:
    return publish(bert_folder, bert_folder.with_name("bert-fp32"), "fp32")


@pytest.fixture(scope="session")
def bert_int8(bert_folder: Path) -> Path:
    return publish(bert_folder, bert_folder.with_name("bert-int8"), "int8")


@pytest.fixture(scope="session")
def late_fp32(late_folder: Path) -> Path:
    return publish(late_folder, late_folder.with_name("late-fp32"), "fp32")


@pytest.fixture(scope="session")
def late_int8(late_folder: Path) -> Path:
    return publish(late_folder, late_folder.with_name("late-int8"), "int8")


@pytest.fixture(scope="session")
def qwen_fp32(qwen_folder: Path) -> Path:
    return publish(qwen_folder, qwen_folder.with_name("qwen-fp32"), "fp32")


@pytest.fixture(scope="session")
def qwen_int8(qwen_folder: Path) -> Path:
    return publish(qwen_folder, qwen_folder.with_name("qwen-int8"), "int8")


@pytest.fixture(params=["bert_fp32", "bert_int8", "late_fp32", "late_int8", "qwen_fp32", "qwen_int8"])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    """Each backbone at each CPU precision."""
    return load_artifact(request.getfixturevalue(request.param))
