"""The parts without HTTP: files and sizes of `student` and `qwen`, and who takes part."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.measure import Plan, measure
from benchmarks.peers.ours import count_tokens
from benchmarks.peers.peer import Files, Setting
from benchmarks.peers.random_qwen import make_artifact, make_checkpoint
from benchmarks.peers.settings import OURS, QWEN, STUDENT
from benchmarks.peers.workloads import graded_workloads, timed_workloads
from model_export.checkpoint import load_checkpoint
from relevance.artifact import Artifact, load_artifact

TEST_FILES = ("homedepot", "trecdl", "medquad")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it is measured."""

    counts: tuple[int, int, int]
    rounds: int
    batch_tokens: tuple[int, ...]
    graded: tuple[int, int]
    """Queries of each file, and documents of each, whose grades are compared."""


SIZES = {
    ("student", False): Size((100, 100, 30), 15, (512, 2048, 8192), (20, 10)),
    ("student", True): Size((20, 10, 5), 3, (1024,), (2, 10)),
    ("qwen", False): Size((16, 6, 3), 3, (1024,), (1, 3)),
    ("qwen", True): Size((4, 2, 1), 1, (1024,), (1, 1)),
}


def test_files(data: Path) -> list[Path]:
    """The three files: short, medium and long documents."""
    return [data / name / "test.jsonl.gz" for name in TEST_FILES]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one part."""
    size = SIZES[args.part, args.quick]
    everybody = STUDENT if args.part == "student" else QWEN
    settings = [one for one in everybody if args.only is None or one == OURS or one.name in args.only]
    files = _student_files(args) if args.part == "student" else _qwen_files(args)
    artifact = load_artifact(files.artifact)
    num_weights = _check_weights(files, artifact)
    timed = timed_workloads(test_files(args.data), args.counts or size.counts)
    plan = Plan(
        timed=timed,
        num_tokens=[count_tokens(artifact, one.query, one.documents) for one in timed],
        graded=graded_workloads(test_files(args.data), *size.graded),
        rounds=args.rounds or size.rounds,
        threads=args.threads,
        batch_tokens=args.batch_tokens or size.batch_tokens,
        num_weights=num_weights,
        memory_gib=args.memory_gib,
        temperature=artifact.manifest.spec.temperature,
    )
    found = measure(settings, files, plan)
    print_table(found["rows"])
    described = {"model": artifact.model_id, "trained": args.part == "student", "num_weights": num_weights}
    how = {"threads": plan.threads, "rounds": plan.rounds, "quick": args.quick}
    return described | how | found | {"ratios": ratios_of(found["rows"], settings)}


def _student_files(args: argparse.Namespace) -> Files:
    sha256 = load_artifact(args.artifact).manifest.provenance.checkpoint_sha256
    return Files(args.checkpoint, args.artifact, args.work / f"student-{sha256[:12]}")


def _qwen_files(args: argparse.Namespace) -> Files:
    work = args.work / args.shape
    make_checkpoint(work / "checkpoint", args.shape, args.tokenizer)
    make_artifact(work / "checkpoint", work / "artifact")
    return Files(work / "checkpoint", work / "artifact", work, "qwen3-grades")


def _check_weights(files: Files, artifact: Artifact) -> int:
    """The number of weights, embedding included; SystemExit unless artifact and checkpoint are of the same."""
    checkpoint = load_checkpoint(str(files.checkpoint), files.spec)
    if checkpoint.sha256 != artifact.manifest.provenance.checkpoint_sha256:
        raise SystemExit(f"{files.artifact} was not made of {files.checkpoint}: nothing could be compared")
    return sum(parameter.numel() for parameter in checkpoint.model.parameters())


def print_table(rows: list[dict[str, Any]]) -> None:
    """Rows for a person."""
    for row in sorted(rows, key=lambda row: (row["workload"], row["group"], row["median_ms"])):
        print(
            f"{row['workload']:<16} {row['peer']:<36} {row['median_ms']:>10.1f} ms  p99 {row['p99_ms']:>10.1f} ms  "
            f"processor {row['processor_ms']:>10.1f} ms {row['documents_per_s']:>8.1f} documents/s "
            f"{row['tokens_per_s']:>8.0f} tokens/s  x {row['ratio_to_ours']}",
            file=sys.stderr,
        )


def ratios_of(rows: list[dict[str, Any]], settings: list[Setting]) -> dict[str, dict[str, float]]:
    """How many times as long as ours each peer takes, by workload."""
    return {
        setting.name: {row["workload"]: row["ratio_to_ours"] for row in rows if row["peer"] == setting.name}
        for setting in settings
        if setting != OURS and any(row["peer"] == setting.name for row in rows)
    }
