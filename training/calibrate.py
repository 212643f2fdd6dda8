"""Fit the temperature of a checkpoint on validation pairs and write it into its scoring spec.

    python -m training.calibrate runs/default/checkpoint --data-dir DIR --data trecdl/val.jsonl.gz ...

Equally many pairs of each file count, so that the largest set does not decide for all. Last line: JSON with the
temperature and the calibration error before and after, over all pairs and per file.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from modeling.loading import load_model, load_tokenizer
from relevance import metrics
from relevance.calibration import fit_temperature
from relevance.scoring import grade_distribution
from relevance.spec import SPEC_FILE, ScoringSpec
from training.data import LabelledPair, encode_pairs, read_pairs
from training.scorer import CheckpointScorer


def balanced_sample(files: Sequence[list[LabelledPair]], max_rows: int, seed: int) -> list[list[LabelledPair]]:
    """Equally many pairs of each file, at most `max_rows`."""
    count = min(max_rows, *(len(rows) for rows in files))
    return [random.Random(seed).sample(rows, count) for rows in files]


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, report and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, help="validation files; never a test split")
    parser.add_argument("--max-rows", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    spec = ScoringSpec.from_file(args.checkpoint / SPEC_FILE)
    files = balanced_sample(
        [read_pairs(args.data_dir / name, spec.scale.num_grades) for name in args.data], args.max_rows, args.seed
    )
    tokenizer = load_tokenizer(str(args.checkpoint))
    label_token_ids = spec.scale.resolve_label_token_ids(tokenizer)
    scorer = CheckpointScorer(load_model(str(args.checkpoint)), spec.attention, label_token_ids, bfloat16=False)
    encoder = spec.encoder(tokenizer)
    logits = [scorer.label_logits(encode_pairs(rows, encoder)) for rows in files]
    gold = [np.array([pair.grade for pair in rows], dtype=np.int64) for rows in files]
    temperature = fit_temperature(np.concatenate(logits), np.concatenate(gold))

    def ece(z: np.ndarray, g: np.ndarray) -> dict[str, float]:
        return {
            "before": metrics.expected_calibration_error(grade_distribution(z), g),
            "after": metrics.expected_calibration_error(grade_distribution(z, temperature), g),
        }

    report = {name: ece(z, g) for name, z, g in zip(args.data, logits, gold, strict=True)}
    spec.model_copy(update={"temperature": temperature}).to_file(args.checkpoint / SPEC_FILE)
    overall = ece(np.concatenate(logits), np.concatenate(gold))
    print(json.dumps({"temperature": temperature, "num_pairs": sum(map(len, files)), "ece": overall, "files": report}))


if __name__ == "__main__":
    main()
