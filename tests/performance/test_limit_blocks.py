"""The generated blocks on limits, precisions and growth, from figures small enough to read."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.blocks import limits, tables

MEASURED = {
    "date": "2026-01-02T03:04:05Z",
    "commit": "abc",
    "command": "python -m benchmarks.it",
    "machine": {"processor": "P", "cores": 2},
}


def put(folder: Path, name: str, figures: dict[str, Any]) -> None:
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / f"{name}.json").write_text(json.dumps({**MEASURED, **figures}))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (limits, tables):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("root")
def test_what_is_not_measured_says_how_it_would_be() -> None:
    for block, command in ((limits.limit, "limit"), (limits.precisions, "precisions"), (limits.growth, "growth")):
        assert "ot yet measured" in block()
        assert f"python -m benchmarks.{command}" in block()


def test_the_limit_shows_share_and_spread(root: Path) -> None:
    row = {
        "num_tokens": 128,
        "engine_tokens_per_s": 600,
        "limit_tokens_per_s": 800,
        "limit_gops": 704,
        "share": 0.75,
        "share_range": [0.7, 0.8],
    }
    others = {"pack": 128, "engine_tokens_per_s": 600, "spinning_tokens_per_s": 610, "apart_tokens_per_s": 620}
    figures = {
        "model": {"name": "m", "layers": 28},
        "num_weights": 440_000_000,
        "settings": {"threads": 2},
        "packs": [{"pack": 128, **row}],
        "workloads": [{"workload": "short x 100", **row}],
        "others": others,
    }
    put(root, "limit", figures)
    text = limits.limit()
    assert "| one pack of 128 tokens | 128 | 600 | 800 | 704 G op/s | 75% (70% to 80%) |" in text
    assert "| short x 100 |" in text
    assert "PyTorch" not in text
    put(root, "limit", {**figures, "others": {**others, "torch_products_gops": 1400}})
    assert "by PyTorch's int8 kernel: 1400 G op/s" in limits.limit()


def test_precisions_stand_beside_the_first(root: Path) -> None:
    agreement = {"mean_difference": 0.0254, "grade_flips": 0.059, "kendall_tau": 0.91}
    row = {"name": "m", "precision": "int4", "size_mb": 25.8, "own_mib": 91.3, "mapped_mib": 55.3, "start_s": 0.54}
    loads = {"short x 16": {"tokens_per_s": 900, "ratio": 1.5}}
    put(root, "precisions", {"rows": [{**row, "agreement": agreement, "workloads": loads}]})
    assert "| m, int4 | 26 MB | 91 + 55 MiB | 0.5 s | 900 (1.50) | 0.025 | 5.9% | 0.910 |" in limits.precisions()


def test_growth_says_line_knee_and_start(root: Path) -> None:
    axis = [{"at": at, "ms": float(at), "line_ms": at + 0.5, "memory_mib": 2.0 * at} for at in (1, 100)]
    client = {"requests_per_s": 20.0, "p50_ms": 100.0, "p99_ms": 180.0}
    figures = {
        "model": "m@1",
        "settings": {"threads": 1, "documents": 10},
        "line": {"us_per_token": 71.4, "ms_per_call": 0.9},
        "line_error": {"median": 0.03, "largest": 0.09},
        "axes": dict.fromkeys(("documents", "document_tokens", "prefix_tokens"), axis),
        "clients": [{"at": 2, **client}, {"at": 4, **client, "requests_per_s": 21.0}],
        "knee_clients": 2,
        "start": {"start_s": 0.5, "load_s": 0.3, "own_mib": 90.0, "mapped_mib": 50.0},
    }
    put(root, "growth", figures)
    text = limits.growth()
    assert "(images/growth.svg)" in text
    assert "71 µs a token" in text
    assert "the knee is at 2 clients: 20.0 requests" in text
    assert "| documents of 32 tokens | 1 to 100 | 1.0 to 100.0 ms | 1.5 to 100.5 ms | 2 to 200 MiB |" in text
    assert "first score 0.50 s" in text
