"""HTTP against HTTP: what is sent, how it is compared, and the service alone where the other server is missing."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.http import Texts, ratios_of

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"


def test_all_servers_are_sent_the_same_and_no_query_twice() -> None:
    texts = Texts(["usb", "red"], [f"d{place}" for place in range(9)])
    ours, theirs = (
        [json.loads(body) for body in islice(texts.bodies(3, 4, fields), 20)] for fields in ({}, {"model": "m"})
    )
    assert [one | {"model": "m"} for one in ours] == theirs
    assert len({one["query"] for one in ours}) == 20
    assert all(len(set(one["documents"])) == 4 for one in ours)
    assert ours[0] != json.loads(next(texts.bodies(4, 4, {})))


def test_a_ratio_above_one_means_ours_is_better() -> None:
    rows = [
        {"clients": 8, "server": "ours, int8", "documents_per_s": 300.0, "p99_ms": 200.0},
        {"clients": 8, "server": "other", "documents_per_s": 100.0, "p99_ms": 500.0},
    ]
    assert ratios_of(rows) == {"other": {"documents_per_s, 8 clients": 3.0, "p99, 8 clients": 2.5}}


@pytest.mark.slow
def test_the_service_is_loaded_and_a_missing_server_is_told(tmp_path: Path) -> None:
    (tmp_path / "homedepot").mkdir()
    with gzip.open(tmp_path / "homedepot" / "test.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(
            json.dumps({"query": f"usb {place % 4}", "document": f"red cable {place}", "grade": 1}) + "\n"
            for place in range(20)
        )
    out = tmp_path / "peers_http.json"
    folders = ["--data", str(tmp_path), "--artifact", str(TINY), "--work", str(tmp_path / "work"), "--out", str(out)]
    missing = ["--infinity", str(tmp_path / "infinity_emb"), "--only", "infinity-emb fp32"]
    assert main(["http", *folders, *missing, "--quick", "--counts", "5", "5", "5"]) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    assert result["skipped"] == {"infinity-emb fp32": "infinity-emb is not installed (make install-bench)"}
    assert {(row["clients"], row["server"]) for row in result["rows"]} == {(1, "ours, int8"), (8, "ours, int8")}
    assert all(row["requests"] > 0 and row["p50_ms"] <= row["p99_ms"] for row in result["rows"])
    assert result["memory_mib"]["ours, int8"] > 0
