"""Evaluate an artifact on labelled pairs, in process or through a running service.

    python -m training.evaluate --artifact artifacts/default --data FILE [FILE ...] [--out results/NAME.json]
    python -m training.evaluate --url http://127.0.0.1:8080 --artifact artifacts/default --data FILE

Prints a table and, as its last line, one JSON object: accuracy, macro_f1, qwk, ndcg_at_10, ece, num_pairs and
num_queries (of the only file, or of each). With --url the pairs go through `POST /score`, one request per
query, and the figures are computed from what came back. They must be those of the artifact in process to 1e-6;
the exit status is 1 where they are not. With --out the result holds, of each file in process, those of
`training.grade_figures` as well: F1 and recall per grade, recall per rule, calibration error before and after, entropy.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.local import LocalScorer
from relevance import metrics
from relevance.pair import Pair
from relevance.provenance import command_line, write_result
from relevance.scoring import FloatArray, expected_score, most_likely_grade
from training.data import LabelledPair, read_pairs
from training.grade_figures import grade_details

_MAX_DOCUMENTS = 500
MAX_DIFFERENCE = 1e-6


def score_over_http(
    url: str, pairs: Sequence[LabelledPair], num_grades: int
) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """Distributions [N, K], grades [N] and scores [N] as the service answers them."""
    by_query: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        by_query.setdefault(pair.query, []).append(index)
    distribution = np.zeros((len(pairs), num_grades))
    grades, scores = np.zeros(len(pairs), dtype=np.int64), np.zeros(len(pairs))
    with httpx.Client(base_url=url, timeout=120.0) as client:
        for query, rows in tqdm(by_query.items(), desc="score", unit="query", mininterval=5):
            for chunk in (rows[i : i + _MAX_DOCUMENTS] for i in range(0, len(rows), _MAX_DOCUMENTS)):
                answer = client.post("/score", json={"query": query, "documents": [pairs[i].document for i in chunk]})
                answer.raise_for_status()
                for index, result in zip(chunk, answer.json()["results"], strict=True):
                    distribution[index] = result["distribution"]
                    grades[index], scores[index] = result["grade"], result["score"]
    return distribution, grades, scores


def figures_of(
    scored: tuple[FloatArray, NDArray[np.int64], FloatArray], pairs: Sequence[LabelledPair], gains: NDArray[np.float64]
) -> dict[str, float]:
    """Figures of one file from its distributions, grades and scores."""
    distribution, grades, scores = scored
    gold = np.array([pair.grade for pair in pairs], dtype=np.int64)
    figures = metrics.summary(distribution, grades, scores, gold, [pair.query for pair in pairs], gains)
    majority = int(np.bincount(gold).max())
    return {**figures, "majority_accuracy": majority / len(gold), "spearman": metrics.spearman(scores, gold)}


def score_in_process(
    scorer: LocalScorer, pairs: Sequence[LabelledPair]
) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """The same, from the artifact itself."""
    distribution = scorer.distributions([Pair(pair.query, pair.document) for pair in pairs])
    return distribution, most_likely_grade(distribution), expected_score(distribution)


def print_table(figures: dict[str, dict[str, float]]) -> None:
    """One row a file, one column a figure."""
    columns = list(next(iter(figures.values())))
    width = max(len(name) for name in figures)
    print(" " * width, *(f"{c:>{max(10, len(c))}}" for c in columns))
    for name, row in figures.items():
        print(
            f"{name:<{width}}",
            *(
                f"{row[c]:>{max(10, len(c))}.4f}" if isinstance(row[c], float) else f"{row[c]:>{max(10, len(c))}}"
                for c in columns
            ),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate and print; 1 if the service and the artifact disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--url", help="score through this service as well, and compare")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="write a results file")
    args = parser.parse_args(argv)
    scorer = LocalScorer.open(args.artifact, num_threads=args.threads)
    scale = scorer.artifact.manifest.spec.scale
    temperature = scorer.artifact.manifest.spec.temperature
    figures: dict[str, dict[str, float]] = {}
    details: dict[str, dict[str, Any]] = {}
    difference = 0.0
    for path in args.data:
        pairs = read_pairs(path, scale.num_grades)
        name = f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.jsonl')}"
        scored = score_in_process(scorer, pairs)
        figures[name] = figures_of(scored, pairs, scale.gains)
        details[name] = grade_details(scored[0], temperature, pairs, scale)
        if args.url:
            over_http = figures_of(score_over_http(args.url, pairs, scale.num_grades), pairs, scale.gains)
            difference = max(difference, *(abs(over_http[key] - value) for key, value in figures[name].items()))
            figures[name] = over_http
    print_table(figures)
    result: dict[str, Any] = {"model": scorer.artifact.model_id, "figures": figures, "details": details}
    if args.url:
        result["largest_difference_from_in_process"] = difference
        print(f"largest difference from the same figures in process: {difference:.2e}")
    if args.out is not None:
        command = command_line("training.evaluate", sys.argv[1:] if argv is None else argv)
        write_result(args.out, command, result)
    print(json.dumps(next(iter(figures.values())) if len(figures) == 1 else figures))
    return 1 if difference > MAX_DIFFERENCE else 0


if __name__ == "__main__":
    sys.exit(main())
