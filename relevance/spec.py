"""A scoring spec: all a checkpoint must be told to be a relevance scorer.

Template, grade scale, limits, attention pattern and temperature. It lies beside a trained checkpoint as
`scoring_spec.json`, is copied into the artifact's manifest by the export, and is the one thing training,
export and service agree on. `relevance/specs/` holds ready ones for checkpoints that carry none.
"""

from importlib import resources
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relevance.attention import Attention
from relevance.errors import ArtifactError
from relevance.grades import GradeScale
from relevance.prompt import PromptEncoder, PromptLimits, PromptTemplate
from relevance.tokenization import TextTokenizer

SPEC_FILE = "scoring_spec.json"


class ScoringSpec(BaseModel):
    """How to ask a checkpoint for a grade and how to read the answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: PromptTemplate
    scale: GradeScale
    limits: PromptLimits
    attention: Attention = "causal"
    temperature: float = Field(default=1.0, gt=0.0)
    """Divides the label logits; fitted on validation pairs by `relevance.calibration`."""

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a spec; ArtifactError names the file and the field at fault."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ArtifactError(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            raise ArtifactError(f"{path}: not a scoring spec: {describe(error)}") from error

    @classmethod
    def preset(cls, name: str) -> Self:
        """The ready spec `relevance/specs/{name}.json`."""
        with resources.as_file(resources.files("relevance") / "specs" / f"{name}.json") as path:
            if not path.is_file():
                known = sorted(p.stem for p in path.parent.glob("*.json"))
                raise ArtifactError(f"no scoring spec named {name!r}; there are {', '.join(known)}")
            return cls.from_file(path)

    def to_file(self, path: Path) -> None:
        """Write the spec as indented JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def encoder(self, tokenizer: TextTokenizer) -> PromptEncoder:
        """The prompt encoder of this spec for `tokenizer`."""
        return PromptEncoder(self.template, tokenizer, self.limits)


def describe(error: ValidationError) -> str:
    """A pydantic error on one line: field path and reason, semicolon-separated."""
    return "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'document'}: {e['msg']}" for e in error.errors())
