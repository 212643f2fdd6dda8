"""Configuration of an evolution run."""

from typing import Self

from pydantic import Field, model_validator

from training.config import StrictConfig
from training.rules.book import Domain
from training.splits import refuse_test_files


class Endpoint(StrictConfig):
    """A chat endpoint that speaks the OpenAI protocol, asked for proposals."""

    base_url: str
    model: str
    key_file: str | None = None
    """A file that holds the key; None: the SDK's own `OPENAI_API_KEY`."""
    timeout_s: float = Field(default=120.0, gt=0.0)
    max_examples: int = Field(default=12, ge=1)
    """Disagreements shown for a rule."""
    max_tries: int = Field(default=3, ge=1)
    """Answers asked for until one is usable."""


class Adaptation(StrictConfig):
    """The brief training that shows what a proposal is worth; fields as in `SftConfig`."""

    learning_rate: float = Field(default=1e-4, gt=0.0)
    encoder_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    warmup_steps: int = Field(default=5, ge=0)
    batch_tokens: int = Field(default=2048, ge=64)
    num_passes: int = Field(default=1, ge=1)
    max_document_tokens: int | None = Field(default=None, ge=8)


class EvolveConfig(StrictConfig):
    """What is evolved, on which data, and what counts as better."""

    base_model: str
    """The checkpoint to start from."""
    spec: str | None = None
    """Name or path of a scoring spec; None: the one in the checkpoint."""
    book: str | None = None
    """A version of the rule book to start from; None: the repository's."""
    mining: tuple[str, ...] = Field(min_length=1)
    """Training files: disagreements are looked for here, and replay is drawn from here."""
    validation: tuple[str, ...] = Field(min_length=1)
    """Files agreement is measured on; nothing of them is trained on or shown to a proposer."""
    mining_rows: int = Field(default=3000, ge=1)
    """Rows drawn of each mining file in a round, others in the next."""
    replay_rows: int = Field(default=1500, ge=1)
    """Rows drawn of each mining file for an adaptation; where a proposal has pairs, they take the place of as many."""
    num_rounds: int = Field(default=3, ge=1)
    proposals_per_round: int = Field(default=2, ge=1)
    cases_per_proposal: int = Field(default=300, ge=1)
    level: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Chance that noise alone gets anything kept in the whole run: shared out among all proposals."""
    resamples: int = Field(default=4000, ge=100)
    instruct: bool = False
    """Put the statements of the book, as many as fit, in front of every pair as the instruction."""
    domains: tuple[Domain, ...] = ("any",)
    """Whose statements those are."""
    endpoint: Endpoint | None = None
    """None: the built-in mutator proposes."""
    adaptation: Adaptation = Adaptation()
    precision: str = Field(default="bfloat16", pattern="^(float32|bfloat16)$")
    seed: int = 0

    @model_validator(mode="after")
    def _no_test_files(self) -> Self:
        refuse_test_files((*self.mining, *self.validation))
        if shared := set(self.mining) & set(self.validation):
            raise ValueError(f"a file cannot be mined and validated on: {', '.join(sorted(shared))}")
        return self

    @property
    def proposal_level(self) -> float:
        """Level of the test of one proposal."""
        return self.level / (self.num_rounds * self.proposals_per_round)
