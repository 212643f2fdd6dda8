"""The grade scale: K ordered grades, each spelt by exactly one token.

The scale is data. A four-grade scale and the yes/no scale of a Qwen3-Reranker differ only in their rows.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from relevance.errors import LabelTokenError
from relevance.tokenization import TextTokenizer


class Grade(BaseModel):
    """One level of relevance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    gain: float = Field(ge=0.0)
    """What a document of this grade adds to a DCG."""
    label: str = Field(min_length=1)
    """The text of the token that spells the grade, encoded as a template literal."""


class GradeScale(BaseModel):
    """K >= 2 grades from least to most relevant; a grade's index in `grades` is its value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grades: tuple[Grade, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for what, values in (("name", self.names), ("label", self.labels)):
            if len(set(values)) != len(values):
                raise ValueError(f"two grades share a {what}: {values}")
        gains = [grade.gain for grade in self.grades]
        if gains != sorted(gains):
            raise ValueError(f"gains must not fall from one grade to the next, got {gains}")
        return self

    @property
    def num_grades(self) -> int:
        """K."""
        return len(self.grades)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each grade, least relevant first."""
        return tuple(grade.name for grade in self.grades)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label of each grade, least relevant first."""
        return tuple(grade.label for grade in self.grades)

    @property
    def gains(self) -> np.ndarray:
        """Gain per grade, float64 [K]."""
        return np.array([grade.gain for grade in self.grades], dtype=np.float64)

    def resolve_label_token_ids(self, tokenizer: TextTokenizer) -> tuple[int, ...]:
        """The token id that spells each grade, in grade order.

        Raises:
            LabelTokenError: a label is no token, several tokens, or the token of another grade.
        """
        ids: list[int] = []
        for grade in self.grades:
            encoded: Sequence[int] = tokenizer.encode_literal(grade.label)
            if len(encoded) != 1:
                raise LabelTokenError(
                    f"label {grade.label!r} of grade {grade.name!r} must be exactly one token, "
                    f"this tokenizer makes {len(encoded)} of it: {list(encoded)}"
                )
            if encoded[0] in ids:
                other = self.grades[ids.index(encoded[0])]
                raise LabelTokenError(
                    f"labels {other.label!r} ({other.name}) and {grade.label!r} ({grade.name}) "
                    f"are the same token id {encoded[0]}"
                )
            if tokenizer.is_unknown(encoded[0]):
                raise LabelTokenError(f"label {grade.label!r} of grade {grade.name!r} is not in the vocabulary")
            ids.append(encoded[0])
        return tuple(ids)
