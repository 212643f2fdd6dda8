"""Training configuration: one TOML file per run, read strictly (an unknown key stops the run)."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relevance.spec import describe


class ConfigError(ValueError):
    """A configuration file that cannot be used; the message names file and field."""


class StrictConfig(BaseModel):
    """A configuration that cannot be changed and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read one TOML file.

        Raises:
            ConfigError: missing file, bad TOML, unknown key or bad value.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not TOML: {error}") from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {describe(error)}") from error


class Source(StrictConfig):
    """One file of labelled pairs and how much of it a pass takes."""

    path: str
    """JSON lines (.jsonl or .jsonl.gz), relative to the data folder given on the command line."""
    repeat: float = Field(default=1.0, gt=0.0)
    """Share of the rows drawn in each pass: 0.5 takes half (another half next time), 2 takes all twice."""
    instruction: str | None = None
    """Put in front of a share of the rows, so that the model has met instructions."""
    instruction_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    max_document_tokens: int | None = Field(default=None, ge=8)
    explanation_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the rows with an explanation whose whole answer is trained, not its first token alone."""


class SftConfig(StrictConfig):
    """Supervised fine-tuning of a base model to answer with the grade first."""

    base_model: str
    """A Hugging Face id or folder, or `package:NAME/PATH` for a folder inside an installed package."""
    spec: str = "minilm-grades"
    """Name of a ready scoring spec, or a path to one."""
    joint_from: int | None = Field(default=None, ge=0)
    """Put the base encoder's layers from this one on beside it as joint layers: see modeling/late_bert.py."""
    sources: tuple[Source, ...] = Field(min_length=1)
    validation: tuple[str, ...] = ()
    """Labelled files scored at each evaluation; never a test split."""
    num_passes: int = Field(default=1, ge=1)
    batch_tokens: int = Field(default=4096, ge=64)
    """Padded tokens in one optimiser step."""
    learning_rate: float = Field(default=1e-4, gt=0.0)
    encoder_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    """Learning rate of embeddings and encoder layers, as a share of `learning_rate`; 0 freezes them."""
    explanation_weight: float = Field(default=0.3, ge=0.0)
    """Of the explanation's loss, a mean over its tokens, beside the grade's."""
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    freeze_embeddings: bool = True
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0
    evaluate_every: int = Field(default=500, ge=1)
    checkpoint_every: int = Field(default=250, ge=1)
    max_validation_rows: int = Field(default=2000, ge=1)


class SimilaritySource(StrictConfig):
    """Texts to pair with one another under the similarity labeller."""

    kind: Literal["pairs", "wordnet"]
    """pairs: queries and documents of a JSON-lines file. wordnet: lemmas and glosses of a WordNet `dict` folder."""
    path: str
    num_spans: int = Field(default=0, ge=0)
    """Queries cut out of each document: a few words in a row, as a user would type them."""
    neighbours: int = Field(default=3, ge=0)
    """Documents drawn for each query from its nearest in this source."""
    strangers: int = Field(default=1, ge=0)
    """Documents drawn for each query at random from this source."""
    max_queries: int = Field(default=20000, ge=1)
    max_document_words: int = Field(default=120, ge=4)


class SimilarityConfig(StrictConfig):
    """Soft labels from an embedding model for any query with any document."""

    labeller: str
    sources: tuple[SimilaritySource, ...] = Field(min_length=1)
    calibration: tuple[str, ...] = Field(min_length=1)
    """Graded training files the similarity -> grade mapping is fitted on."""
    calibration_rows: int = Field(default=8000, ge=100)
    """Rows taken of each."""
    top: int = Field(default=50, ge=1)
    """How near a neighbour is: drawn from this many nearest documents."""
    seed: int = 0
