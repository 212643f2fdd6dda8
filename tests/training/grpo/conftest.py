"""A policy of two thousand weights and a handful of explained pairs."""

import json
import random
from pathlib import Path

import pytest

from relevance.explanation import Explanation, render
from relevance.spec import ScoringSpec
from training.arms.catalogue import draw_rows
from training.arms.checkpoint import write_base
from training.grpo.config import SupervisedConfig
from training.grpo.stage import train_and_save
from training.grpo.supervised import build

ROWS = draw_rows(random.Random(0), 48)
SPEC = ScoringSpec.preset("minilm-grades").model_copy(update={"attention": "causal"})
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpo") / "base"
    explained = [render(Explanation.from_json(row["explanation"]), SPEC.scale) for row in ROWS]
    write_base(folder, [*explained, *(row["query"] + " " + row["document"] for row in ROWS)], SPEC, SHAPE)
    return folder


@pytest.fixture(scope="session")
def answers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


@pytest.fixture(scope="session")
def answering(tmp_path_factory: pytest.TempPathFactory, base: Path, answers_dir: Path) -> Path:
    """The base after a few supervised steps: it answers with a grade first, mostly the wrong one."""
    run = tmp_path_factory.mktemp("supervised")
    trl = {
        "max_steps": 12,
        "per_device_train_batch_size": 16,
        "learning_rate": 2e-2,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    config = SupervisedConfig(base_model=str(base), data=("train.jsonl",), grade_weight=0.9, trl=trl)
    trainer, checkpoint = build(config, answers_dir, run)
    train_and_save(trainer, run, checkpoint, "supervised")
    return run / "checkpoint"
