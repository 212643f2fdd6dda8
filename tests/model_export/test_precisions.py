"""Precisions side by side, and a start from nothing: the whole commands on the tiny model."""

import json
from pathlib import Path

import pytest

from benchmarks import cold_start, precisions


def test_precisions_are_compared_with_the_first(
    qwen_fp32: Path, qwen_int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "precisions.json"
    few = ["--rounds", "1", "--threads", "1", "--documents", "2", "--starts", "1"]
    precisions.main([str(qwen_fp32), str(qwen_int8), *few, "--out", str(out)])
    first, second = json.loads(out.read_text())["rows"]
    assert (first["precision"], second["precision"]) == ("fp32", "int8")
    assert second["size_mb"] < first["size_mb"]
    assert set(first["workloads"]) == {"short x 2", "medium x 2", "long x 2"}
    assert {one["ratio"] for one in first["workloads"].values()} == {1.0}
    assert second["agreement"]["compared"] == "onnx fp32 -> onnx int8"
    for row in (first, second):
        # The process as a whole takes longer than its parts, and holds what it counts.
        assert row["start_s"] >= row["load_s"] + row["first_score_s"] > 0.0
        assert row["peak_mib"] >= row["resident_mib"] >= row["own_mib"] > 1.0
        assert row["resident_mib"] == pytest.approx(row["own_mib"] + row["mapped_mib"], abs=1.0)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]).keys() == {"fp32", "int8"}


def test_a_run_says_one_line(qwen_int8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cold_start.main([str(qwen_int8), "--here"])
    (line,) = capsys.readouterr().out.splitlines()
    assert {"load_s", "first_score_s", "resident_mib", "mapped_mib"} <= json.loads(line).keys()
