"""One model at several precisions: size, memory, time and agreement side by side.

    python -m benchmarks.precisions ARTIFACT ARTIFACT ... [--rounds 5] [--out results/precisions.json]

Times are medians over rounds in which the artifacts take turns, ratios are to the first. Memory and start are those of
processes of their own (`benchmarks.cold_start`). Agreement is what the parity gate measured when each was exported.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cold_start import cold_start
from benchmarks.engine import Ways, build_workloads
from benchmarks.limit import interleaved
from engine.packing import DEFAULT_PACK_TOKENS
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result

NUM_DOCUMENTS = 16


def describe(folders: Sequence[Path], num_starts: int) -> list[dict[str, Any]]:
    """Size, agreement, start and memory of each artifact."""
    artifacts = [load_artifact(folder) for folder in folders]
    rows: list[dict[str, Any]] = []
    for folder, artifact in zip(folders, artifacts, strict=True):
        manifest = artifact.manifest
        num_bytes = sum(entry.num_bytes for name, entry in manifest.files.items() if name != "tokenizer.json")
        agreement = manifest.parity.agreements[-1].model_dump()
        rows.append(
            {
                "name": manifest.name,
                "precision": manifest.precision,
                "size_mb": round(num_bytes / 1e6, 1),
                "agreement": agreement,
                **cold_start(folder, num_starts),
            }
        )
    return rows


def measure(folders: Sequence[Path], num_threads: int, num_rounds: int, num_documents: int) -> list[dict[str, Any]]:
    """Rates of each artifact, by workload."""
    artifacts = [load_artifact(folder) for folder in folders]
    rows: list[dict[str, Any]] = [{} for _ in folders]
    ways = [Ways(artifact, num_threads, DEFAULT_PACK_TOKENS) for artifact in artifacts]
    for place, workload in enumerate(build_workloads(artifacts[0], [num_documents], None)):
        loads = [build_workloads(artifact, [num_documents], None)[place] for artifact in artifacts]
        runs = {
            str(number): partial(way.packed, load) for number, (way, load) in enumerate(zip(ways, loads, strict=True))
        }
        medians = [statistics.median(seconds) for seconds in interleaved(runs, num_rounds).values()]
        for row, load, seconds in zip(rows, loads, medians, strict=True):
            figures = {"tokens_per_s": round(load.num_tokens / seconds), "ratio": round(seconds / medians[0], 3)}
            row[workload.name] = figures
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print rows, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", metavar="ARTIFACT", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--documents", type=int, default=NUM_DOCUMENTS)
    parser.add_argument("--starts", type=int, default=3, help="processes for start and memory, beside the first")
    parser.add_argument("--out", type=Path, default=Path("results/precisions.json"))
    args = parser.parse_args(argv)
    rows = describe(args.artifacts, args.starts)
    loads = measure(args.artifacts, args.threads, args.rounds, args.documents)
    rows = [{**row, "workloads": one} for row, one in zip(rows, loads, strict=True)]
    command = command_line("benchmarks.precisions", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {"settings": {"threads": args.threads, "rounds": args.rounds}, "rows": rows})
    for row in rows:
        print(row)
    print(
        json.dumps({row["precision"]: {name: one["ratio"] for name, one in row["workloads"].items()} for row in rows})
    )


if __name__ == "__main__":
    main()
