"""Sixty everyday queries, each with a relevant text, one that only shares words, and one off topic.

    python -m training.everyday --artifact artifacts/default [--out results/everyday_default.json]

What a newcomer would try, from kitchen to web shop. It was written for this project, is nobody's training data,
and asks one thing: does the relevant text come first? Last line: JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from engine.local import LocalScorer
from relevance.pair import Pair
from relevance.provenance import command_line, write_result
from relevance.scoring import expected_score, most_likely_grade

KINDS = ("relevant", "shares_words", "off_topic")


def read_queries() -> list[dict[str, str]]:
    """Rows with `query` and one text per kind."""
    text = (resources.files("training") / "everyday.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def main(argv: Sequence[str] | None = None) -> None:
    """Score, print the misses and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    rows = read_queries()
    scorer = LocalScorer.open(args.artifact)
    distribution = scorer.distributions([Pair(row["query"], row[kind]) for row in rows for kind in KINDS])
    scores = expected_score(distribution).reshape(-1, len(KINDS))
    grades = most_likely_grade(distribution).reshape(-1, len(KINDS))
    first = scores[:, 0] > scores[:, 1:].max(axis=1)
    for row, values, is_first in zip(rows, scores, first, strict=True):
        if not is_first:
            print(f"missed: {row['query']!r} {np.round(values, 3).tolist()}")
    figures = {
        "num_queries": len(rows),
        "relevant_first": float(first.mean()),
        "mean_score": {kind: float(scores[:, i].mean()) for i, kind in enumerate(KINDS)},
        "mean_grade": {kind: float(grades[:, i].mean()) for i, kind in enumerate(KINDS)},
    }
    if args.out is not None:
        command = command_line("training.everyday", sys.argv[1:] if argv is None else argv)
        write_result(args.out, command, {"model": scorer.artifact.model_id, "figures": figures})
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
