"""Configuration of the answer stages (supervised and policy): TOML, read strictly, TRL's own fields passed through."""

from dataclasses import fields
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from trl import GRPOConfig, SFTConfig

from training.config import StrictConfig
from training.grpo.answers import Order
from training.rewards import SEGMENTS, GradeReward

# Set by the run itself: a configuration that names them would be overruled in silence.
_OWN_FIELDS = ("output_dir", "seed", "data_seed", "reward_weights", "remove_unused_columns", "report_to")


class AnswerConfig(StrictConfig):
    """What both answer stages need to know."""

    base_model: str
    """Checkpoint folder or Hugging Face id; `package:NAME/PATH` is a folder inside an installed package."""
    spec: str | None = None
    """Name or path of a scoring spec; None: the one that lies in the checkpoint."""
    data: tuple[str, ...] = Field(min_length=1)
    """Files of explained pairs, relative to the data folder; never a test split."""
    order: Order = "grade_first"
    max_rows: int | None = Field(default=None, ge=1)
    """So many rows of all files, drawn by the seed."""
    oversample: float = Field(default=0.0, ge=0.0, le=1.0)
    """Rare rules more often: a rule of share s is repeated (largest share / s) ** oversample times, at most 16."""
    seed: int = 0
    grade_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the grade token in the supervised loss of an answer."""
    trl: dict[str, Any] = Field(default_factory=dict)
    """Fields of TRL's own configuration, by TRL's names."""


def _check_trl(values: dict[str, Any], trl_config: type) -> None:
    known = {field.name for field in fields(trl_config)}
    for name in values:
        if name in _OWN_FIELDS:
            raise ValueError(f"trl.{name} is set by the run itself")
        if name not in known:
            raise ValueError(f"trl.{name}: {trl_config.__name__} has no such field")


class SupervisedConfig(AnswerConfig):
    """Supervised fine-tuning on gold answers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_trl(self.trl, SFTConfig)
        return self


class Anchor(StrictConfig):
    """The supervised loss beside the policy's: lambda runs from `start` to `end` over `num_steps`, then stays."""

    start: float = Field(default=0.0, ge=0.0)
    end: float = Field(default=0.0, ge=0.0)
    num_steps: int = Field(default=0, ge=0)


class Rewards(StrictConfig):
    """Which reward the grade gets, how much each segment counts, and when an answer is long."""

    grade: GradeReward = "exact"
    free_tokens: int = Field(default=192, ge=1)
    weights: dict[str, float] = Field(default_factory=dict)
    """Weight per segment (1 where none is given). Whole-answer credit sums with them; stepwise scales advantages."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = set(self.weights) - set(SEGMENTS)
        if unknown:
            raise ValueError(f"weights: no segment {', '.join(sorted(unknown))}; there are {', '.join(SEGMENTS)}")
        return self


class PolicyConfig(AnswerConfig):
    """GRPO from a supervised checkpoint."""

    credit: Literal["whole", "stepwise"] = "stepwise"
    """whole: one advantage for all tokens, from the weighted sum of rewards (plain GRPO). stepwise: one per segment."""
    clamp: float | None = Field(default=None, gt=0.0)
    """Advantages are bounded to [-clamp, clamp]."""
    exact_grade: float = Field(default=0.0, ge=0.0)
    """Weight of the grade's exact expected reward, which then replaces its sampled advantage; 0: sampled."""
    anchor: Anchor = Anchor()
    rewards: Rewards = Rewards()
    difficulty: tuple[float, float] | None = None
    """Only groups whose share of right grades is within these bounds teach the policy; the anchor learns from all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_trl(self.trl, GRPOConfig)
        if self.order == "reason_first":
            raise ValueError("order: segments are those of an answer that starts with the grade")
        if self.exact_grade > 0.0 and self.credit == "whole":
            raise ValueError("exact_grade needs credit = 'stepwise': whole-answer credit has no segment to leave out")
        if self.trl.get("scale_rewards", "group") not in ("group", "none"):
            raise ValueError("trl.scale_rewards: 'group' or 'none'; segments are normalised within their group")
        return self
