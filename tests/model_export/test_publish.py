"""All or nothing: what lies at OUT after success, refusal and misuse."""

import json
from pathlib import Path

import pytest

from engine.local import LocalScorer, self_test
from engine.ort import OrtEngine
from model_export.__main__ import main, override_thresholds, parse
from model_export.parity import DEFAULT_THRESHOLDS
from relevance.artifact import MANIFEST_FILE, Artifact, load_artifact
from relevance.pair import Pair


def test_an_artifact_verifies_and_scores(artifact: Artifact) -> None:
    engine = OrtEngine(artifact)
    assert self_test(artifact, engine) <= 1e-4
    distributions = LocalScorer(artifact, engine).distributions([Pair("usb cable", "a white usb cable"), Pair("", "")])
    assert distributions.shape == (2, 4)
    manifest = artifact.manifest
    steps = ["torch fp32 -> onnx fp32", "onnx fp32 -> onnx int8"][: 1 + (manifest.precision == "int8")]
    assert [agreement.compared for agreement in manifest.parity.agreements] == steps
    assert len(manifest.golden_pairs) == 8
    assert {path.name for path in artifact.folder.iterdir()} == {MANIFEST_FILE, *manifest.files}


def test_a_manifest_names_no_path_of_this_machine(artifact: Artifact) -> None:
    text = (artifact.folder / MANIFEST_FILE).read_text()
    assert str(artifact.folder.parent) not in text
    assert "/tmp" not in text


def test_the_gate_refuses_and_leaves_nothing(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "artifact"
    status = main([str(bert_folder), str(out), "--precision", "int8", "--threshold", "int8.max_difference=1e-6"])
    assert status == 1
    assert "not published: parity gate, onnx fp32 -> onnx int8" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_keeps_the_artifact_before_and_a_good_one_replaces_it(
    bert_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "artifact"
    assert main([str(bert_folder), str(out), "--precision", "fp32", "--name", "first"]) == 0
    first = load_artifact(out)
    assert main([str(bert_folder), str(out), "--precision", "fp32", "--threshold", "fp32.max_difference=0"]) == 1
    assert load_artifact(out).hash == first.hash
    (out / "README.md").write_text("the model card")
    assert main([str(bert_folder), str(out), "--precision", "fp32", "--name", "second"]) == 0
    assert load_artifact(out).manifest.name == "second"
    assert (out / "README.md").read_text() == "the model card"
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


def test_a_folder_that_is_no_artifact_is_not_replaced(bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([str(bert_folder), str(tmp_path), "--precision", "fp32"]) == 1
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_name_no_manifest_takes_is_refused_before_the_slow_work(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(bert_folder), str(tmp_path / "out"), "--precision", "fp32", "--name", "two words"]) == 1
    assert "name: String should match pattern" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_pairs_take_part_but_are_not_published(bert_folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "private.jsonl"
    pairs.write_text("".join(json.dumps({"query": "secret", "document": f"number {i}"}) + "\n" for i in range(30)))
    arguments = [str(bert_folder), str(tmp_path / "out"), "--precision", "fp32", "--num-parity-pairs", "80"]
    assert main([*arguments, "--pairs", str(pairs)]) == 0
    manifest = load_artifact(tmp_path / "out").manifest
    assert manifest.parity.agreements[0].num_pairs == 80
    assert manifest.parity.pairs == f"80 pairs: built-in and, seed 0, of {tmp_path.name}/private.jsonl"
    assert "secret" not in {pair.query for pair in manifest.golden_pairs}
    assert manifest.provenance.command.endswith(f"--pairs {tmp_path.name}/private.jsonl")


def test_fp16_is_meant_for_cuda(bert_folder: Path, tmp_path: Path) -> None:
    assert main([str(bert_folder), str(tmp_path / "out"), "--precision", "fp16"]) == 0
    manifest = load_artifact(tmp_path / "out").manifest
    assert (manifest.target, manifest.graph.kv_dtype, manifest.graph.bias_dtype) == ("cuda", "float16", "float16")


def test_thresholds_are_overridden_one_by_one() -> None:
    thresholds = override_thresholds(["int8.kendall_tau=0.5", "fp32.near_tie=0.1"])
    assert thresholds["int8"].kendall_tau == 0.5
    assert thresholds["int8"].max_difference == DEFAULT_THRESHOLDS["int8"].max_difference
    assert thresholds["fp32"].near_tie == 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        ["--threshold", "int8.tau=1"],
        ["--threshold", "int2.kendall_tau=1"],
        ["--threshold", "int8.kendall_tau=high"],
        ["--num-parity-pairs", "3"],
    ],
)
def test_bad_options_stop_before_anything_is_loaded(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["checkpoint", "out", *wrong])
