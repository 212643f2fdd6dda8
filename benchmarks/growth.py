"""How cost grows: time and memory against documents, tokens, length of the prefix, and, over HTTP, concurrency.

    python -m benchmarks.growth [--quick] [--out results/growth.json] [--chart docs/images/growth.svg]

In process, each axis in a process of its own, whose sizes rise: seconds are medians over rounds, the prefix computed
in each; memory is the most that was resident, above what the loaded model takes. Over HTTP: clients that each send
their next request of ten documents when they have their answer; no two requests alike. One line is fitted to all
times in process (`benchmarks.growth_line`), and the knee is where more clients get no more. At the end the start of a
process (`benchmarks.cold_start`).
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cold_start import NUM_RUNS, cold_start, resident_mib
from benchmarks.growth_chart import draw
from benchmarks.growth_line import AXES, Size, fit_line, is_on_line, knee_of, predict, value_of
from benchmarks.http_load import closed_loop, memory_mib, percentile_ms, processes_of
from benchmarks.served import ROOT, serving
from engine.base import DocumentWork
from engine.ort import OrtEngine
from engine.packing import DEFAULT_PACK_TOKENS, plan_packs
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result

CLIENTS, QUICK_CLIENTS = (1, 2, 4, 8, 16, 32), (1, 4)
REQUEST_DOCUMENTS = 10
ROUNDS, SECONDS = 9, 5.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.1


def score(engine: OrtEngine, size: Size, ids: np.ndarray) -> None:
    """One query's documents of this size, from nothing."""
    (held,) = engine.prefill_prefixes([ids[: size.prefix_tokens].tolist()])
    work = [
        DocumentWork(held, tuple(ids[number : number + size.document_tokens].tolist()))
        for number in range(size.num_documents)
    ]
    for pack in plan_packs([size.document_tokens] * size.num_documents, DEFAULT_PACK_TOKENS):
        engine.score_documents([work[index] for index in pack])


def measure_axis(artifact: Path, axis: str, num_threads: int, num_rounds: int) -> list[dict[str, Any]]:
    """A row for each size of `axis` that the model has positions for, in this process."""
    loaded = load_artifact(artifact)
    engine = OrtEngine(loaded, num_threads=num_threads)
    ids = np.random.default_rng(0).integers(0, loaded.manifest.graph.vocab_size, 1024)
    base = resident_mib()["resident_mib"]
    rows = []
    room = loaded.manifest.graph.max_positions
    for size in AXES[axis]:
        if size.prefix_tokens + size.document_tokens > room:
            break
        seconds = []
        for number in range(num_rounds + 1):
            started = time.perf_counter()
            score(engine, size, ids)
            if number:
                seconds.append(time.perf_counter() - started)
        peak = resident_mib()["peak_mib"]
        figures = {"ms": round(1e3 * statistics.median(seconds), 3), "memory_mib": round(max(0.0, peak - base), 1)}
        rows.append({"at": value_of(axis, size), "num_tokens": size.num_tokens, **figures})
    return rows


def measure_axes(artifact: Path, num_threads: int, num_rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every axis, each in a process of its own."""
    found = {}
    for axis in AXES:
        options = ["--artifact", str(artifact.absolute()), "--threads", str(num_threads), "--rounds", str(num_rounds)]
        command = [sys.executable, "-m", "benchmarks.growth", "--axis", axis, *options]
        said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
        found[axis] = json.loads(said)
    return found


def measure_clients(artifact: Path, numbers: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """A row for each number of clients of the service as it starts by default."""
    rows = []
    with serving(artifact, "--score-cache-mib", "0", "--max-waiting-tokens", "10000000") as service:
        asyncio.run(closed_loop(service, [REQUEST_DOCUMENTS], 2, seconds / 4, seed=99))
        for clients in numbers:
            answers, took = asyncio.run(closed_loop(service, [REQUEST_DOCUMENTS], clients, seconds, seed=clients))
            if any(answer.status != 200 for answer in answers):
                raise RuntimeError(f"not everything was answered: {sorted({answer.status for answer in answers})}")
            rows.append(
                {
                    "at": clients,
                    "requests_per_s": round(len(answers) / took, 2),
                    "p50_ms": round(percentile_ms(answers, 0.5), 2),
                    "p99_ms": round(percentile_ms(answers, 0.99), 2),
                    "memory_mib": round(memory_mib(processes_of(service.pid))["resident"], 1),
                }
            )
    return rows


def summarise(axes: dict[str, list[dict[str, Any]]], clients: list[dict[str, Any]]) -> dict[str, Any]:
    """All rows with the line, what it says of each, and the knee."""
    pairs = [pair for axis in AXES for pair in zip(AXES[axis], axes[axis], strict=False)]  # the largest may lack
    sizes, rows = [size for size, _ in pairs], [row for _, row in pairs]
    line = fit_line(sizes, [row["ms"] / 1e3 for row in rows], DEFAULT_PACK_TOKENS)
    for size, row in zip(sizes, rows, strict=True):
        row["line_ms"] = round(1e3 * predict(line, size, DEFAULT_PACK_TOKENS), 3)
    errors = [
        abs(row["line_ms"] - row["ms"]) / row["ms"]
        for size, row in zip(sizes, rows, strict=True)
        if is_on_line(size, DEFAULT_PACK_TOKENS)
    ]
    return {
        "line": {"us_per_token": round(1e6 * line[0], 2), "ms_per_call": round(1e3 * line[1], 3)},
        "line_error": {"median": round(statistics.median(errors), 3), "largest": round(max(errors), 3)},
        "axes": axes,
        "clients": clients,
        "knee_clients": knee_of({row["at"]: row["requests_per_s"] for row in clients}),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write a result and a chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--threads", type=int, default=1, help="in process; the service's own default is another")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="one round, a moment of load: to see that it runs")
    parser.add_argument("--axis", choices=tuple(AXES), help="one axis, here, as JSON")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "growth.json")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "images" / "growth.svg")
    args = parser.parse_args(argv)
    num_rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if args.quick else (args.rounds, SECONDS)
    clients = QUICK_CLIENTS if args.quick else CLIENTS
    if args.axis:
        print(json.dumps(measure_axis(args.artifact, args.axis, args.threads, num_rounds)))
        return
    axes = measure_axes(args.artifact, args.threads, num_rounds)
    settings = {"threads": args.threads, "rounds": num_rounds, "seconds": seconds, "documents": REQUEST_DOCUMENTS}
    figures = {"model": load_artifact(args.artifact).model_id, "settings": settings}
    figures |= summarise(axes, measure_clients(args.artifact, clients, seconds))
    figures["start"] = cold_start(args.artifact, 1 if args.quick else NUM_RUNS)
    write_result(args.out, command_line("benchmarks.growth", sys.argv[1:] if argv is None else argv), figures)
    args.chart.write_text(draw(figures), encoding="utf-8")
    print(json.dumps({name: figures[name] for name in ("line", "line_error", "knee_clients")}))


if __name__ == "__main__":
    main()
