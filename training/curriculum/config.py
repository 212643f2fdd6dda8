"""Configuration of a curriculum: what is measured, what each stage takes, how it trains."""

from typing import Literal, Self

from pydantic import Field, model_validator

from training.config import StrictConfig
from training.splits import refuse_test_files


class Pick(StrictConfig):
    """Rows of one pool, by difficulty."""

    pool: Literal["synthetic", "real"]
    easiest: float = Field(default=0.0, ge=0.0, le=1.0)
    """Quantile of difficulty within a file to start at: 0 is its easiest row."""
    hardest: float = Field(default=1.0, ge=0.0, le=1.0)
    """Quantile to stop at; under 1 it leaves out the hardest rows, where wrong labels gather."""
    long_tail_only: bool = False
    """Only rows of rare grades or rare rules."""
    max_rows: int = Field(default=10_000, ge=1)
    """Of each file."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.easiest >= self.hardest:
            raise ValueError(f"easiest ({self.easiest}) must be below hardest ({self.hardest})")
        return self


class Stage(StrictConfig):
    """One training run on picked rows and some of the stages before."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    picks: tuple[Pick, ...] = Field(min_length=1)
    replay: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the stage's rows that are rows of earlier stages."""
    num_passes: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0.0)
    warmup_steps: int = Field(default=20, ge=0)


class CurriculumConfig(StrictConfig):
    """A whole curriculum."""

    base_model: str
    """What the first stage starts from."""
    spec: str | None = None
    """Name or path of a scoring spec; None: the one in `base_model`."""
    joint_from: int | None = Field(default=None, ge=0)
    """As in `SftConfig`, for the first stage; the others go on from its checkpoint."""
    measure_with: str
    """The checkpoint whose confidence is the difficulty: a trained one, not the base."""
    real: tuple[str, ...] = Field(min_length=1)
    synthetic: tuple[str, ...] = ()
    """Files of `python -m training.synthesis`."""
    validation: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1)
    measured_rows: int = Field(default=20_000, ge=1)
    """Rows drawn of each file; only these are measured and picked from."""
    rare_rule: float = Field(default=0.01, ge=0.0, le=1.0)
    """A rule is rare in a file if it applies to less than this share of it."""
    rare_grade: float = Field(default=0.1, ge=0.0, le=1.0)
    """A grade is rare in a file below this share."""
    max_document_tokens: int | None = Field(default=None, ge=8)
    batch_tokens: int = Field(default=4096, ge=64)
    encoder_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    freeze_embeddings: bool = True
    max_validation_rows: int = Field(default=2000, ge=1)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0

    @model_validator(mode="after")
    def _check_files_and_names(self) -> Self:
        refuse_test_files((*self.real, *self.synthetic, *self.validation))
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages share a name: {', '.join(names)}")
        if not self.synthetic and any(pick.pool == "synthetic" for stage in self.stages for pick in stage.picks):
            raise ValueError("a stage picks synthetic rows, and there is no synthetic file")
        return self
