"""Supervised fine-tuning on whole answers, on TRL's SFTTrainer: the stage before GRPO.

    python -m training.grpo.supervised configs/training/qwen3_0.6b_sft.toml --data-dir DIR --run runs/answers-sft

    L = g (- log pi(grade)) + (1 - g) mean_t (- log pi(t))      over gold answers; g = grade_weight

The same command goes on from the last state. Many GPUs: `accelerate launch` in front of it (docs/grpo.md).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from training.grpo.answers import AnswerCodec, AnswerPair
from training.grpo.config import SupervisedConfig
from training.grpo.losses import answer_loss
from training.grpo.stage import BaseCheckpoint, JsonLinesLog, claim_run, draw_pairs, train_and_save


def answer_dataset(pairs: Sequence[AnswerPair], codec: AnswerCodec) -> Dataset:
    """Prompt and gold answer as `input_ids`, with `labels` on the answer alone."""
    prompts, answers = [codec.prompt(pair) for pair in pairs], [codec.gold(pair) for pair in pairs]
    return Dataset.from_dict(
        {
            "input_ids": [p + a for p, a in zip(prompts, answers, strict=True)],
            "labels": [[-100] * len(p) + a for p, a in zip(prompts, answers, strict=True)],
        }
    )


class AnswerSftTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's supervised trainer with the grade token's share of the loss set, not left to the answer's length."""

    def __init__(self, codec: AnswerCodec, grade_weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._reason_first, self._grade_weight = codec.order == "reason_first", grade_weight
        self.model_accepts_loss_kwargs = False  # the loss is a mean per answer: accumulation divides by its steps

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        """The weighted loss over the answers of a batch."""
        labels = inputs["labels"][:, 1:]
        counted = labels >= 0
        first = counted.int().argmax(1)
        # Of an answer that ends with the grade the grade is the last but one token, before the end.
        grade = first + counted.sum(1) - 2 if self._reason_first else first
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = answer_loss(outputs.logits[:, :-1], labels, grade, self._grade_weight).mean()
        return (loss, outputs) if return_outputs else loss


def build(
    config: SupervisedConfig, data_dir: Path, run_dir: Path, model: PreTrainedModel | None = None
) -> tuple[AnswerSftTrainer, BaseCheckpoint]:
    """The trainer of one configuration; `model` stands in for the base's weights where the caller has them."""
    base = BaseCheckpoint(config.base_model, config.spec)
    codec = base.codec(config.order)
    pairs = draw_pairs(config, data_dir, base.spec.scale.num_grades)
    args = SFTConfig(
        **{
            "max_length": None,
            "logging_steps": 10,
            **config.trl,
            "output_dir": str(run_dir / "states"),
            "seed": config.seed,
            "report_to": "none",
        }
    )
    claim_run(run_dir, config)
    trainer = AnswerSftTrainer(
        codec,
        config.grade_weight,
        model=base.path if model is None else model,
        args=args,
        train_dataset=answer_dataset(pairs, codec),
        processing_class=base.tokenizer,
        callbacks=[JsonLinesLog(run_dir)],
    )
    return trainer, base


def main(argv: Sequence[str] | None = None) -> None:
    """Run one configuration to its end, or on from where it stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args(argv)
    trainer, base = build(SupervisedConfig.from_toml(args.config), args.data_dir, args.run)
    train_and_save(trainer, args.run, base, "supervised")
    print(json.dumps({"step": trainer.state.global_step, "checkpoint": str(args.run / "checkpoint")}))


if __name__ == "__main__":
    main()
