"""Loading refuses everything it does not know; damage is done to copies of the tiny artifact."""

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relevance.artifact import MANIFEST_FILE, hash_file, load_artifact
from relevance.errors import ArtifactError

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "artifact"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_loads_and_is_identified_by_its_hash(folder: Path) -> None:
    artifact = load_artifact(folder)
    assert artifact.hash == hash_file(folder / MANIFEST_FILE).sha256
    assert artifact.model_id == f"{artifact.manifest.name}@{artifact.hash[:12]}"
    assert artifact.manifest.spec.scale.num_grades == len(artifact.manifest.label_token_ids)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_an_altered_byte_is_found(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=rf"{name}: damaged or altered"):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", MANIFEST_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_artifact(folder)


def test_a_half_written_manifest_is_refused(folder: Path) -> None:
    path = folder / MANIFEST_FILE
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArtifactError, match="not a JSON object"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(format_version=2), "format_version 2 is not known here, only 1"),
        (lambda m: m.pop("format_version"), "format_version None is not known"),
        (lambda m: m.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda m: m.pop("graph"), "graph: Field required"),
        (lambda m: m.update(golden_pairs=[]), "golden_pairs"),
        (lambda m: m["label_token_ids"].reverse(), "the tokenizer spells the grades"),
        (lambda m: m["label_token_ids"].pop(), "label_token_ids must be"),
        (lambda m: m["files"].pop("model.onnx"), r"manifest\.files has no model\.onnx"),
        (lambda m: m["files"].update({"../x": m["files"]["model.onnx"]}), "not a plain file name"),
        (lambda m: m["spec"]["template"].update(suffix=""), r"spec\.template\.suffix"),
        (lambda m: m["spec"]["limits"].update(max_tokens=10**6), "is beyond"),
        (lambda m: m["spec"]["scale"]["grades"][0].update(label="no such token"), "must be exactly one token"),
        (lambda m: m["golden_pairs"][0].update(distribution=[1.0]), "has 1 probabilities"),
    ],
)
def test_what_is_not_known_is_refused_with_the_reason(folder: Path, change: Any, reason: str) -> None:
    edit(folder, change)
    with pytest.raises(Exception, match=reason) as caught:
        load_artifact(folder)
    assert isinstance(caught.value, ArtifactError | ValueError)


@pytest.mark.parametrize("name", ["model.onnx.data", "more.bin", ".hidden", "sub"])
def test_a_file_nobody_vouches_for_is_refused(folder: Path, name: str) -> None:
    # A graph may read its weights from any of them.
    if name == "sub":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(b"x")
    with pytest.raises(ArtifactError, match=rf"{name}: not in manifest\.files"):
        load_artifact(folder)


def test_a_model_card_may_lie_beside(folder: Path) -> None:
    (folder / "README.md").write_text("a card")
    assert load_artifact(folder).manifest.name == load_artifact(TINY).manifest.name


def test_nothing_that_loads_an_artifact_can_run_code_from_it() -> None:
    root = Path(__file__).parents[2]
    for path in (path for package in ("relevance", "engine", "service") for path in (root / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "torch"}, path
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not called & {"eval", "exec", "compile", "__import__"}, path
        assert "allow_pickle" not in path.read_text(encoding="utf-8"), path
