"""The base of all arms: a decoder that can read a pair and has met no grade.

    <query> <document> -> evidence: < what both name > | missing: what the document lacks |

Trained from scratch on pairs of a catalogue of its own, it stands in for a pretrained language model: matching words
is learned once, and the arms are about judging. The answer's grade, criteria and verdict occur nowhere in it.
"""

import random
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from relevance.explanation import STEPS, Explanation, render, steps
from relevance.spec import ScoringSpec
from training.arms.catalogue import draw_rows
from training.arms.checkpoint import write_base
from training.arms.config import ArmsConfig, Stage
from training.grpo.answers import AnswerPair
from training.grpo.stage import BaseCheckpoint

# The reader's own catalogue: its rows at most, and another seed than any arm's data.
READER_ROWS, READER_SEED = 12000, 1_000_003


def trl_fields(stage: Stage, run_dir: Path, seed: int) -> dict[str, Any]:
    """TRL's fields of a supervised stage on this machine; nothing is kept between steps, a stage is short."""
    return {
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch,
        "learning_rate": stage.learning_rate,
        "warmup_steps": max(1, stage.steps // 10),
        "adam_beta2": 0.98,
        "weight_decay": 0.01,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "output_dir": str(run_dir / "states"),
        "seed": seed,
        "report_to": "none",
    }


def write_reader(config: ArmsConfig, folder: Path) -> None:
    """Train the base and write its checkpoint, once."""
    if (folder / "model.safetensors").is_file():
        return
    spec = ScoringSpec.preset("minilm-grades").model_copy(update={"attention": "causal"})
    rows = draw_rows(random.Random(READER_SEED), min(READER_ROWS, config.reader.steps * config.reader.batch))
    explained = [(row, render(Explanation.from_json(row["explanation"]), spec.scale)) for row in rows]
    write_base(
        folder.with_name("base"),
        [t for r, text in explained for t in (r["query"], r["document"], text)],
        spec,
        config.shape,
    )
    base = BaseCheckpoint(str(folder.with_name("base")), None)
    codec = base.codec("grade_first")
    prompts = [codec.prompt(AnswerPair(row["query"], row["document"], 0)) for row in rows]
    answers = [[*base.json_tokenizer.encode_user_texts([_read_part(text)])[0], codec.end_id] for _, text in explained]
    data = Dataset.from_dict(
        {
            "input_ids": [p + a for p, a in zip(prompts, answers, strict=True)],
            "labels": [[-100] * len(p) + a for p, a in zip(prompts, answers, strict=True)],
        }
    )
    model = AutoModelForCausalLM.from_pretrained(base.path)
    args = SFTConfig(**trl_fields(config.reader, folder, 0), max_length=None, logging_steps=20)
    SFTTrainer(model=model, args=args, train_dataset=data, processing_class=base.tokenizer).train()
    base.tokenizer.save_pretrained(folder)
    spec.to_file(folder / "scoring_spec.json")
    model.save_pretrained(folder)


def _read_part(text: str) -> str:
    """Evidence and missing terms of a rendered explanation."""
    spans = {span.name: span for span in steps(text)}
    return text[spans[STEPS[5]].start : spans[STEPS[6]].end]


def write_student(reader: Path, folder: Path, num_layers: int) -> None:
    """The reader's first layers alone, as a checkpoint."""
    if (folder / "model.safetensors").is_file():
        return
    model = AutoModelForCausalLM.from_pretrained(reader)
    model.model.layers = model.model.layers[:num_layers]
    model.config.num_hidden_layers = num_layers
    model.config.layer_types = model.config.layer_types[:num_layers]
    base = BaseCheckpoint(str(reader), None)
    base.tokenizer.save_pretrained(folder)
    base.spec.to_file(folder / "scoring_spec.json")
    model.save_pretrained(folder)
