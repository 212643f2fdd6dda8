"""Fit a checkpoint's last scalars on validation pairs: the temperature, and a late model's weight of its reader.

    python -m training.calibrate runs/default/checkpoint --data-dir DIR --data trecdl/val.jsonl.gz ...

Equally many pairs of each file count, so that the largest set does not decide for all. The temperature goes into the
scoring spec. A late model's logits are G h + A f + b (modeling/late_bert.py); the reader's part, G h, fits the training
pairs better than new ones, so it is multiplied by the share of `READER_SHARES` with the best mean quadratic kappa over
the files, and the product is stored as G. Last line: JSON with both, and the calibration error before and after, over
all pairs and per file.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from modeling.late_bert import LateBertForGrading
from modeling.loading import load_model, load_tokenizer
from relevance import metrics
from relevance.calibration import fit_temperature
from relevance.scoring import grade_distribution, most_likely_grade
from relevance.spec import SPEC_FILE, ScoringSpec
from training.data import Example, LabelledPair, encode_pairs, read_pairs
from training.scorer import CheckpointScorer

READER_SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)


def balanced_sample(files: Sequence[list[LabelledPair]], max_rows: int, seed: int) -> list[list[LabelledPair]]:
    """Equally many pairs of each file, at most `max_rows`."""
    count = min(max_rows, *(len(rows) for rows in files))
    return [random.Random(seed).sample(rows, count) for rows in files]


def choose_reader_share(
    reader: Sequence[NDArray[np.float64]], rest: Sequence[NDArray[np.float64]], gold: Sequence[NDArray[np.int64]]
) -> float:
    """The share of the reader's logits with the best mean kappa over files; of equals the largest.

    Args:
        reader, rest: parts of the label logits, [N, K] a file.
        gold: grades, [N] a file.
    """

    def mean_kappa(share: float) -> float:
        found = [
            metrics.quadratic_weighted_kappa(most_likely_grade(grade_distribution(share * g + a)), grades, a.shape[1])
            for g, a, grades in zip(reader, rest, gold, strict=True)
        ]
        return float(np.mean(found))

    return max(READER_SHARES, key=mean_kappa)


def weigh_reader(
    model: LateBertForGrading,
    scorer: CheckpointScorer,
    files: Sequence[Sequence[Example]],
    gold: Sequence[NDArray[np.int64]],
) -> tuple[float, list[NDArray[np.float64]]]:
    """Scale the head of `model` by the share chosen on `files`; the share, and the logits that follow."""
    whole = [scorer.label_logits(examples).astype(np.float64) for examples in files]
    head = model.label_head.weight.detach().clone()
    with torch.no_grad():
        model.label_head.weight.zero_()
        rest = [scorer.label_logits(examples).astype(np.float64) for examples in files]
        share = choose_reader_share([z - a for z, a in zip(whole, rest, strict=True)], rest, gold)
        model.label_head.weight.copy_(share * head)
    return share, [share * z + (1.0 - share) * a for z, a in zip(whole, rest, strict=True)]


def fit_logits(
    model: PreTrainedModel,
    scorer: CheckpointScorer,
    files: Sequence[Sequence[Example]],
    gold: Sequence[NDArray[np.int64]],
) -> tuple[float | None, list[NDArray[np.float64]]]:
    """Logits of each file, of a late model with its reader weighed."""
    if isinstance(model, LateBertForGrading):
        return weigh_reader(model, scorer, files, gold)
    return None, [scorer.label_logits(examples).astype(np.float64) for examples in files]


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
    model = load_model(str(args.checkpoint))
    scorer = CheckpointScorer(model, spec.attention, label_token_ids, bfloat16=False)
    encoder = spec.encoder(tokenizer)
    gold = [np.array([pair.grade for pair in rows], dtype=np.int64) for rows in files]
    share, logits = fit_logits(model, scorer, [encode_pairs(rows, encoder) for rows in files], gold)
    temperature = fit_temperature(np.concatenate(logits), np.concatenate(gold))

    def ece(z: np.ndarray, g: np.ndarray) -> dict[str, float]:
        return {
            "before": metrics.expected_calibration_error(grade_distribution(z), g),
            "after": metrics.expected_calibration_error(grade_distribution(z, temperature), g),
        }

    report = {name: ece(z, g) for name, z, g in zip(args.data, logits, gold, strict=True)}
    if share is not None:
        model.save_pretrained(args.checkpoint)
    spec.model_copy(update={"temperature": temperature}).to_file(args.checkpoint / SPEC_FILE)
    overall = ece(np.concatenate(logits), np.concatenate(gold))
    print(
        json.dumps(
            {
                "temperature": temperature,
                "reader_share": share,
                "num_pairs": sum(map(len, files)),
                "ece": overall,
                "files": report,
            }
        )
    )


if __name__ == "__main__":
    main()
