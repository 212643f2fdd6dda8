"""From a policy configuration to its trainer."""

from pathlib import Path

from trl import GRPOConfig

from training.grpo.config import PolicyConfig
from training.grpo.stage import BaseCheckpoint, JsonLinesLog, claim_run, draw_pairs
from training.grpo.trainer import PolicyTask, StepwiseGrpoTrainer


def trl_config(config: PolicyConfig, run_dir: Path) -> GRPOConfig:
    """TRL's configuration: its own fields as given, what the run decides, and DyKnow-RAG's published defaults.

    Group of 16, temperature .99, top-k 100, learning rate 1e-6, clip .2, beta .02 (arXiv 2510.11122).
    """
    defaults = {
        "num_generations": 16,
        "temperature": 0.99,
        "top_k": 100,
        "learning_rate": 1e-6,
        "epsilon": 0.2,
        "beta": 0.02,
        "loss_type": "grpo",
        "logging_steps": 1,
    }
    own = {"output_dir": str(run_dir / "states"), "seed": config.seed, "report_to": "none"}
    return GRPOConfig(**{**defaults, **config.trl, **own})


def build(config: PolicyConfig, data_dir: Path, run_dir: Path) -> tuple[StepwiseGrpoTrainer, BaseCheckpoint]:
    """The trainer of one configuration and the checkpoint it starts from."""
    base = BaseCheckpoint(config.base_model, config.spec)
    codec = base.codec(config.order)
    task = PolicyTask(draw_pairs(config, data_dir, base.spec.scale.num_grades), codec, config)
    args = trl_config(config, run_dir)  # what TRL refuses claims no folder
    claim_run(run_dir, config)
    trainer = StepwiseGrpoTrainer(base.path, args, task, base.tokenizer, [JsonLinesLog(run_dir)])
    return trainer, base
