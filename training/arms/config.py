"""Configuration of the arms: the base, how long each stage is, and the arms themselves."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from training.config import StrictConfig
from training.grpo.answers import Order
from training.grpo.config import Anchor

READER = "reader"
"""The base every arm starts from: a decoder that has learned to read pairs, and knows no grade."""


class Stage(StrictConfig):
    """A supervised stage: AdamW, linear warm-up over a tenth, then linearly down."""

    steps: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)


class Arm(StrictConfig):
    """One way to train."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    says: str
    """What it is, in a few words, for the table."""
    kind: Literal["supervised", "policy", "distilled"]
    start: str = READER
    """The base, or the arm (of the same seed) whose checkpoint it goes on from."""
    order: Order = "grade_first"
    steps: int | None = Field(default=None, ge=1)
    """Instead of the stage's."""
    learning_rate: float | None = Field(default=None, gt=0.0)
    """Of a supervised arm, instead of the stage's."""
    credit: Literal["whole", "stepwise"] = "stepwise"
    anchor: Anchor = Anchor()
    exact_grade: float = 0.0
    teacher: str | None = None
    """Of a distilled arm: the arm (of the same seed) that labels."""
    grades: bool = False
    """Distilled: the teacher's grade distribution."""
    explanations: bool = False
    """Distilled: the teacher's answers as text, its most likely grade included."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "distilled" and (self.teacher is None or not (self.grades or self.explanations)):
            raise ValueError("a distilled arm needs a teacher, and grades or explanations to learn from it")
        return self


class ArmsConfig(StrictConfig):
    """All of it."""

    seeds: tuple[int, ...] = Field(min_length=1)
    rows: int = Field(ge=32)
    """Training pairs of one seed, drawn by it."""
    shape: dict[str, int]
    """Fields of Qwen3Config."""
    student_layers: int = Field(ge=1)
    """Distilled arms keep so many of the base's layers."""
    reader: Stage
    supervised: Stage
    distilled: Stage
    policy: dict[str, Any]
    """Fields of TRL's GRPOConfig, for all policy arms; `max_steps` unless the arm has its own `steps`."""
    difficulty: tuple[float, float] | None = None
    clamp: float | None = None
    free_tokens: int = Field(default=80, ge=1)
    curve_points: int = Field(default=6, ge=1)
    """Points of a learning curve after its first."""
    generated_pairs: int = Field(default=150, ge=1)
    """Test pairs whose whole answers are judged."""
    arms: tuple[Arm, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = {READER}
        for arm in self.arms:
            for other in (arm.start, arm.teacher):
                if other is not None and other not in known:
                    raise ValueError(f"arm {arm.name}: {other!r} is no arm before it")
            if arm.name in known:
                raise ValueError(f"two arms are called {arm.name!r}")
            known.add(arm.name)
        return self
