"""The same figures from the artifact in process and from the running service."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.api.test_program import TINY, running
from training import evaluate

KEYS = {"accuracy", "macro_f1", "qwk", "ndcg_at_10", "ece", "num_pairs", "num_queries"}


def test_last_line_is_json_and_http_agrees_with_in_process(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--artifact", str(TINY), "--data", str(data_dir / "val.jsonl.gz")]
    assert evaluate.main([*common, "--out", str(tmp_path / "local.json")]) == 0
    local = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(local) >= KEYS
    with running() as program:
        assert evaluate.main([*common, "--url", program.url, "--out", str(tmp_path / "http.json")]) == 0
    over_http = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert over_http == pytest.approx(local, abs=1e-6, nan_ok=True)
    record = json.loads((tmp_path / "http.json").read_text())
    (details,) = record["details"].values()
    assert details["ece"]["after"] == pytest.approx(local["ece"])
    assert np.mean([row["f1"] for row in details["grades"].values() if row["gold"] or row["predicted"]]) == (
        pytest.approx(local["macro_f1"])
    )
    assert record["largest_difference_from_in_process"] <= 1e-6
    assert str(data_dir) not in record["command"]
    assert {"date", "commit", "machine"} <= set(record)


def test_a_service_with_another_model_is_found_out(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Another temperature is another model: the figures must differ, and the command must say so.
    original = evaluate.score_over_http

    def sharper(*arguments):  # type: ignore[no-untyped-def]
        distribution, grades, scores = original(*arguments)
        return distribution**2 / (distribution**2).sum(axis=1, keepdims=True), grades, scores

    monkeypatch.setattr(evaluate, "score_over_http", sharper)
    with running() as program:
        common = ["--artifact", str(TINY), "--data", str(data_dir / "val.jsonl.gz")]
        assert evaluate.main([*common, "--url", program.url]) == 1
