"""Bulk scoring on a real Ray: driver, then engine are killed; every row is there once, as one engine scores it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.app import main
from engine.local import LocalScorer
from relevance.pair import Pair
from tests.scale.bulk_fakes import TINY

ROOT = Path(__file__).parents[2]
WORDS = ("usb cable", "egg", "running shoes", "water kettle", "read file")
ROWS = [
    {"query": f"{WORDS[i // 20 % 5]} {i // 20}", "document": f"the {WORDS[i % 5]} is good {i}"} for i in range(1200)
]
ENGINE = "ray::MapWorker"


def engines_under(pid: int) -> list[int]:
    """Processes of engines below a process, by the title Ray gives them while they run."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(child) for child in children if ENGINE in Path(f"/proc/{child}/cmdline").read_text()]
    return found + [engine for child in children for engine in engines_under(int(child))]


def wait_for_parts(folder: Path, number: int, process: "subprocess.Popen[str]") -> None:
    ends = time.monotonic() + 150
    while len(list(folder.glob("part-*"))) < number:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < ends
        os.sched_yield()


@pytest.mark.slow
@pytest.mark.timeout(400)  # two starts of Ray, on machines that are busy with other tests
def test_driver_and_engine_are_killed_and_every_row_is_there_once(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "in.parquet", row_group_size=500)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cli", "score-dataset", str(tmp_path / "in.parquet"), str(out)]
    command += ["--artifact", str(TINY), "--unit-rows", "20", "--actors", "1", "--price-per-hour", "3.6"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}

    first = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    wait_for_parts(out, 2, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    stopped_at = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert len(stopped_at) < len(ROWS) // 20
    assert not (out / "report.json").exists()

    second = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    wait_for_parts(out, len(stopped_at) + 2, second)
    killed = engines_under(second.pid)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    told, complaints = second.communicate(timeout=200)
    assert second.returncode == 0, complaints

    rows = [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]
    assert [row["row_id"] for row in rows] == list(range(len(ROWS)))
    assert [row["document"] for row in rows] == [row["document"] for row in ROWS]
    assert {name: (out / name).stat().st_mtime_ns for name in stopped_at} == stopped_at
    scorer = LocalScorer.open(TINY, num_threads=1)
    expected = scorer.distributions([Pair(**row) for row in ROWS[:200]]).tolist()
    scorer.close()
    assert [row["distribution"] for row in rows[:200]] == expected

    report = json.loads(told.splitlines()[-1])
    assert report["rows"] == len(ROWS)
    assert report["cost_this_run"] == pytest.approx(report["seconds_this_run"] / 1000, abs=1e-4)
    assert json.loads((out / "report.json").read_text())["rows"] == len(ROWS)
    assert len(killed) == 1, "no engine was found to kill"


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if re.match(r"scale\.bulk", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # what an import of a missing package finds
    assert main(["score-dataset", str(tmp_path / "in.parquet"), str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert "(ray) is not installed" in message
    assert "pip install -e '.[scale]'" in message
