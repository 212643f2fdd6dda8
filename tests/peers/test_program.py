"""The benchmark as a program, small: a tiny artifact, its checkpoint in torch, and a peer that cannot run."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.__main__ import main
from model_export.parity import DEFAULT_THRESHOLDS
from model_export.publish import ExportOptions, export
from model_export.tiny import write_checkpoint

WORDS = ["usb", "cable", "red", "socks", "steel", "kettle", "hdmi", "battery", "paper", "water"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder / "checkpoint")
    options = ExportOptions(
        checkpoint=str(folder / "checkpoint"),
        out=folder / "artifact",
        precision="fp32",
        command="test",
        thresholds=DEFAULT_THRESHOLDS,
        num_pairs=10,
    )
    export(options)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, length in (("homedepot", 2), ("trecdl", 8), ("medquad", 20)):
        (tmp_path / name).mkdir()
        with gzip.open(tmp_path / name / "test.jsonl.gz", "wt", encoding="utf-8") as stream:
            for place in range(24):
                document = " ".join(WORDS[(place * 7 + step * step) % 10] for step in range(length)) + f" {place}"
                stream.write(json.dumps({"query": WORDS[place % 3], "document": document, "grade": 0}) + "\n")
    return tmp_path


def arguments(model: Path, data: Path, *further: str) -> list[str]:
    folders = ["--data", str(data), "--artifact", str(model / "artifact"), "--checkpoint", str(model / "checkpoint")]
    out = str(data / "out" / "peers_student.json")
    return ["student", *folders, "--work", str(data / "work"), "--threads", "1", "--quick", "--out", out, *further]


@pytest.mark.slow
def test_a_peer_is_timed_and_compared_and_one_that_cannot_run_is_told(
    model: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = data / "broken"
    broken.mkdir()
    (broken / "nncf.py").write_text("raise ImportError('no nncf', name='nncf')")
    (broken / "openvino.py").write_text("raise ImportError('no openvino', name='openvino')")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    assert main(arguments(model, data, "--only", "torch fp32", "OpenVINO bf16")) == 0
    result: dict[str, Any] = json.loads((data / "out" / "peers_student.json").read_text())
    assert result["skipped"] == {"OpenVINO bf16": "openvino is not installed (make install-bench)"}
    assert "skipped: OpenVINO bf16" in capsys.readouterr().err
    times = {(row["workload"], row["peer"]): row for row in result["rows"]}
    assert len(times) == 6
    for workload in ("homedepot x 20", "trecdl x 10", "medquad x 5"):
        ours, peer = times[workload, "ours, int8"], times[workload, "torch fp32"]
        assert peer["ratio_to_ours"] == pytest.approx(peer["median_ms"] / ours["median_ms"], abs=1e-3)
        assert peer["computed_tokens"] > ours["tokens"]  # padding, and the query again for each document
        assert 0 < ours["median_ms"] <= ours["p99_ms"]
    # A float32 artifact: the same grades but for the order of sums, or the two did not see the same prompts.
    agreement = result["peers"]["ours, int8"]["agreement"]
    assert agreement["num_pairs"] == 60
    assert agreement["max_difference"] < 1e-4
    assert (data / "out" / "peers.svg").read_text().count("torch fp32") == 1
    assert set(result["ratios"]) == {"torch fp32"}


def test_weights_that_are_not_the_artifacts_are_refused(model: Path, data: Path) -> None:
    write_checkpoint(data / "other", is_late=False)
    with pytest.raises(SystemExit, match="nothing could be compared"):
        main([*arguments(model, data), "--checkpoint", str(data / "other")])
