"""A bulk job that is killed again and again: is every row there once, and how close is its rate to the bare engine's?

    python -m benchmarks.bulk --data DATA/homedepot/train.jsonl.gz [--rows 50000] [--quick]    -> results/bulk.json

The command `answer-first score-dataset` on real pairs, sorted by query, in three runs:

    first    its driver is killed (SIGKILL) at a tenth of the rows
    second   one of its engines is killed at two tenths, the driver at three tenths
    third    goes on to the end, undisturbed: its rate, the start of its engines included

in process: as many processes as the job has engines, each with one engine and nothing else, score the same kind of
units at the same time; before and after the job. Then all parts are read: every row once, in order, with its text, and
with the very distribution the bare engine gave.
"""

import argparse
import gzip
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.served import ROOT
from engine.local import LocalScorer
from relevance.artifact import load_artifact
from relevance.pair import Pair
from relevance.provenance import command_line, write_result
from scale.bulk import parts_of
from scale.bulk_units import cut_units

ENGINE = "ray::MapWorker"
DRIVER_KILLED_AT, ENGINE_KILLED_AT = (0.1, 0.3), 0.2
POLL_S = 0.1
Row = dict[str, Any]


def read_pairs(path: Path, num_rows: int) -> list[Row]:
    """The first distinct pairs of a file, sorted by query."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        pairs = dict.fromkeys((row["query"], row["document"]) for row in map(json.loads, lines))
    return [{"query": query, "document": document} for query, document in sorted(list(pairs)[:num_rows])]


def bare_engine(
    artifact: Path, rows: Sequence[Row], unit_rows: int, barrier: Barrier, out: "multiprocessing.Queue[Any]"
) -> None:
    """One engine in a process of its own: documents a second, and what it said."""
    scorer = LocalScorer.open(artifact, num_threads=1)
    scorer.distributions([Pair(**row) for row in rows[:16]])
    units = list(cut_units((row["query"] for row in rows), unit_rows))
    said: list[list[float]] = []
    barrier.wait()
    began = time.perf_counter()
    for start, stop in units:
        said += scorer.distributions([Pair(**row) for row in rows[start:stop]]).tolist()
    out.put((rows[0]["query"], len(rows) / (time.perf_counter() - began), said))


def in_process(artifact: Path, shares: Sequence[Sequence[Row]], unit_rows: int) -> tuple[float, dict[str, Any]]:
    """Documents a second of all engines together, and what each said of its share, by the share's first query."""
    context = multiprocessing.get_context("spawn")
    barrier, out = context.Barrier(len(shares)), context.Queue()
    processes = [
        context.Process(target=bare_engine, args=(artifact, share, unit_rows, barrier, out)) for share in shares
    ]
    for process in processes:
        process.start()
    answers = [out.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rate for _, rate, _ in answers), {query: said for query, _, said in answers}


def engines_under(pid: int) -> list[int]:
    """Processes of engines below a process, by the title Ray gives them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(child) for child in children if ENGINE in Path(f"/proc/{child}/cmdline").read_text()]
    return found + [engine for child in children for engine in engines_under(int(child))]


class Job:
    """The command, run until it is done or killed."""

    def __init__(self, artifact: Path, source: Path, folder: Path, unit_rows: int) -> None:
        self._command = [sys.executable, "-m", "cli", "score-dataset", str(source), str(folder)]
        self._command += ["--artifact", str(artifact), "--unit-rows", str(unit_rows)]
        self._folder = folder
        self.num_units = 1

    def start(self) -> "subprocess.Popen[str]":
        """A run of it."""
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def wait_until(self, share: float, process: "subprocess.Popen[str]") -> int:
        """Wait until this share of the units is done; how many are."""
        while (done := len(parts_of(self._folder))) < share * self.num_units:
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"the job ended early: {process.communicate()}")
        return done

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """The driver, without a warning."""
        process.send_signal(signal.SIGKILL)
        process.communicate()


def disturbed(job: Job) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was killed when, and the report of the run that reached the end."""
    first = job.start()
    events = [{"killed": "driver", "units_done": job.wait_until(DRIVER_KILLED_AT[0], first)}]
    job.kill(first)
    second = job.start()
    done = job.wait_until(ENGINE_KILLED_AT, second)
    engines = engines_under(second.pid)
    if not engines:
        raise RuntimeError("no engine is running that could be killed")
    os.kill(engines[0], signal.SIGKILL)
    events.append({"killed": "engine", "units_done": done})
    events.append({"killed": "driver", "units_done": job.wait_until(DRIVER_KILLED_AT[1], second)})
    job.kill(second)
    told, complaints = job.start().communicate()
    if not told:
        raise RuntimeError(complaints)
    return events, json.loads(told.splitlines()[-1])


def check(folder: Path, rows: Sequence[Row], said: dict[str, Any]) -> dict[str, Any]:
    """Whether every row is there once, and as the bare engine scored it."""
    found = [row for part in parts_of(folder) for row in pq.read_table(part).to_pylist()]
    firsts = {row["query"]: number for number, row in reversed(list(enumerate(rows)))}
    compared = [
        (found[firsts[query] + place]["distribution"], one)
        for query, answers in said.items()
        for place, one in enumerate(answers)
    ]
    return {
        "rows_out": len(found),
        "every_row_once": [row["row_id"] for row in found] == list(range(len(rows)))
        and all(out["document"] == row["document"] for out, row in zip(found, rows, strict=True)),
        "errors": sum(row["error"] is not None for row in found),
        "rows_compared": len(compared),
        "as_the_bare_engine": all(out == bare for out, bare in compared),
    }


def measure(artifact: Path, rows: list[Row], unit_rows: int, bare_rows: int) -> dict[str, Any]:
    """All figures."""
    num_engines = len(os.sched_getaffinity(0))
    starts = [number * len(rows) // num_engines for number in range(num_engines)]
    # From the first row of a query, so that a share is known by it.
    starts = [next(i for i in range(s, len(rows)) if not i or rows[i]["query"] != rows[i - 1]["query"]) for s in starts]
    shares = [rows[start : start + bare_rows] for start in starts]
    with tempfile.TemporaryDirectory() as temporary:
        source, folder = Path(temporary) / "in.parquet", Path(temporary) / "out"
        pq.write_table(pa.Table.from_pylist(rows), source, row_group_size=10_000)
        before, said = in_process(artifact, shares, unit_rows)
        job = Job(artifact, source, folder, unit_rows)
        job.num_units = len(list(cut_units((row["query"] for row in rows), unit_rows)))
        began = time.monotonic()
        events, report = disturbed(job)
        took = time.monotonic() - began
        after, _ = in_process(artifact, shares, unit_rows)
        checked = check(folder, rows, said)
    bare = (before + after) / 2
    return {
        "rows": len(rows),
        "queries": len({row["query"] for row in rows}),
        "unit_rows": unit_rows,
        "events": events,
        "seconds_of_all_runs": round(took, 1),
        "last_run": report,
        "in_process_documents_per_s": {"before": round(before, 1), "after": round(after, 1)},
        "share_of_in_process": round(report["documents_per_s"] / bare, 3),
        **checked,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status says whether every row was there once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--data", type=Path, required=True, help="JSON lines of pairs, packed")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--unit-rows", type=int, default=512)
    parser.add_argument("--bare-rows", type=int, default=4000, help="of each engine without a job around it")
    parser.add_argument("--quick", action="store_true", help="2,000 rows, to see whether it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bulk.json")
    args = parser.parse_args(argv)
    if args.quick:
        args.rows, args.unit_rows, args.bare_rows = 2000, 64, 300
    figures = measure(args.artifact.resolve(), read_pairs(args.data, args.rows), args.unit_rows, args.bare_rows)
    command = command_line("benchmarks.bulk", argv or sys.argv[1:])
    model = load_artifact(args.artifact).model_id
    write_result(args.out, command, {"model": model, **figures}, ("onnxruntime", "pyarrow", "ray"))
    print(json.dumps(figures))
    return 0 if figures["every_row_once"] and figures["as_the_bare_engine"] else 1


if __name__ == "__main__":
    sys.exit(main())
