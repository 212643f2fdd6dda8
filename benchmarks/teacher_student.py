"""Teacher against student: quality kept, size, and time, both as artifacts on the same machine in one run.

    python -m benchmarks.teacher_student --teacher runs/teacher_mean/artifact --student artifacts/default --data FILE

Quality is that of `training.evaluate`. Times are medians over interleaved rounds of 100 short documents behind one
query, prefix included, as `benchmarks.engine` packs them; only their ratio means something on another machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine import Ways, Workload, build_workloads
from engine.local import LocalScorer
from engine.packing import DEFAULT_PACK_TOKENS
from relevance.artifact import Artifact, load_artifact
from relevance.provenance import command_line, write_result
from training.data import read_pairs
from training.evaluate import figures_of, score_in_process

NUM_DOCUMENTS = 100
KEPT = ("accuracy", "macro_f1", "qwk", "ndcg_at_10")


def describe(artifact: Artifact) -> dict[str, Any]:
    """Layers, width and bytes."""
    graph = artifact.manifest.graph
    num_bytes = sum(entry.num_bytes for entry in artifact.manifest.files.values())
    return {
        "model": artifact.model_id,
        "num_layers": graph.num_layers,
        "hidden_size": graph.hidden_size,
        "num_bytes": num_bytes,
    }


def quality(artifact: Artifact, files: Sequence[Path], num_threads: int) -> dict[str, dict[str, float]]:
    """Figures of each file."""
    scorer = LocalScorer.open(artifact.folder, num_threads=num_threads)
    scale = artifact.manifest.spec.scale
    found = {}
    for path in files:
        pairs = read_pairs(path, scale.num_grades)
        name = f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.jsonl')}"
        found[name] = figures_of(score_in_process(scorer, pairs), pairs, scale.gains)
    return found


def time_both(artifacts: dict[str, Artifact], num_threads: int, num_rounds: int) -> dict[str, float]:
    """Median milliseconds of each artifact on the short workload."""
    ways = {name: Ways(artifact, num_threads, DEFAULT_PACK_TOKENS) for name, artifact in artifacts.items()}
    work: dict[str, Workload] = {
        name: build_workloads(artifact, [NUM_DOCUMENTS], None)[0] for name, artifact in artifacts.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in artifacts}
    for round_index in range(num_rounds + 1):  # the first is the warm-up
        for name in artifacts:
            started = time.perf_counter()
            ways[name].packed(work[name])
            if round_index:
                seconds[name].append(time.perf_counter() - started)
    return {name: round(1e3 * statistics.median(values), 2) for name, values in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate both, time both, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("results/teacher_student.json"))
    args = parser.parse_args(argv)
    artifacts = {"teacher": load_artifact(args.teacher), "student": load_artifact(args.student)}
    figures = {name: quality(artifact, args.data, args.threads) for name, artifact in artifacts.items()}
    kept = {
        file: {key: figures["student"][file][key] / teacher[key] for key in KEPT if teacher[key]}
        for file, teacher in figures["teacher"].items()
    }
    times = time_both(artifacts, args.threads, args.rounds)
    result = {
        "models": {name: describe(artifact) for name, artifact in artifacts.items()},
        "figures": figures,
        "kept": kept,
        "threads": args.threads,
        "num_documents": NUM_DOCUMENTS,
        "median_ms": times,
        "time_ratio": round(times["teacher"] / times["student"], 3),
    }
    write_result(args.out, command_line("benchmarks.teacher_student", sys.argv[1:] if argv is None else argv), result)
    print(json.dumps({"kept": kept, "time_ratio": result["time_ratio"]}))


if __name__ == "__main__":
    main()
