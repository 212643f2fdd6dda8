"""One self-contained HTML report per run: RUN/report.html.

    python -m training.report runs/default [RUN ...] --data FILE [FILE ...] [--explanations RESULT.json]

Learning curves come from the run's log; confusion, calibration before and after the temperature, grades, rules and
slices from grading the files with the run's checkpoint. The page needs no network. Without --data it has the curves.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modeling.loading import load_model, load_tokenizer
from relevance import metrics
from relevance.provenance import now_utc
from relevance.scoring import expected_score, grade_distribution, most_likely_grade
from relevance.spec import SPEC_FILE, ScoringSpec
from training.data import LabelledPair, encode_pairs, read_pairs
from training.grade_figures import grade_details
from training.report.log import read_history
from training.report.page import FileReport, render_page
from training.scorer import CheckpointScorer


def grade_files(checkpoint: Path, paths: Sequence[Path], max_rows: int) -> list[FileReport]:
    """Each file, or `max_rows` of it drawn by a fixed seed, as a checkpoint grades it."""
    spec = ScoringSpec.from_file(checkpoint / SPEC_FILE)
    tokenizer = load_tokenizer(str(checkpoint))
    label_token_ids = spec.scale.resolve_label_token_ids(tokenizer)
    scorer = CheckpointScorer(load_model(str(checkpoint)), spec.attention, label_token_ids, bfloat16=False)
    reports = []
    for path in paths:
        pairs: list[LabelledPair] = read_pairs(path, spec.scale.num_grades)
        if len(pairs) > max_rows:
            pairs = random.Random(0).sample(pairs, max_rows)
        logits = scorer.label_logits(encode_pairs(pairs, spec.encoder(tokenizer)))
        distribution = grade_distribution(logits, spec.temperature)
        figures = _summary(distribution, pairs, spec.scale.gains)
        details = grade_details(distribution, spec.temperature, pairs, spec.scale)
        reports.append(FileReport("/".join(path.parts[-2:]), figures, details))
    return reports


def _summary(
    distribution: NDArray[np.float64], pairs: Sequence[LabelledPair], gains: NDArray[np.float64]
) -> dict[str, float]:
    gold, scores = np.array([pair.grade for pair in pairs]), expected_score(distribution)
    predicted, queries = most_likely_grade(distribution), [pair.query for pair in pairs]
    summary = metrics.summary(distribution, predicted, scores, gold, queries, gains)
    return {**summary, "spearman": metrics.spearman(scores, gold)}


def write_report(run: Path, data: Sequence[Path], explanations: dict[str, Any] | None, max_rows: int) -> Path:
    """Write a run's report, whole or not at all; its path.

    Raises:
        FileNotFoundError: not a run folder.
    """
    history, checkpoint = read_history(run), run / "checkpoint"
    origin: dict[str, Any] = {}
    if (checkpoint / "training.json").is_file():
        origin = json.loads((checkpoint / "training.json").read_text(encoding="utf-8"))
    facts = {
        "stage": origin.get("stage"),
        "steps": origin.get("step"),
        "commit": origin.get("commit"),
        "written": now_utc()[:16],
        **origin.get("versions", {}),
    }
    files = grade_files(checkpoint, data, max_rows) if data else []
    path = run / "report.html"
    temporary = path.with_name("report.html.part")
    temporary.write_text(render_page(f"Run {run.name}", facts, history, files, explanations), encoding="utf-8")
    temporary.replace(path)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report of every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="labelled files to grade")
    parser.add_argument("--explanations", type=Path, help="a result of training.explanations")
    parser.add_argument("--max-rows", type=int, default=4000, help="of each file")
    args = parser.parse_args(argv)
    explanations = None
    if args.explanations is not None:
        explanations = json.loads(args.explanations.read_text(encoding="utf-8"))["figures"]
    for run in args.runs:
        print(write_report(run, args.data, explanations, args.max_rows))


if __name__ == "__main__":
    main()
