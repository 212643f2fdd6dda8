"""What the service answers, typed. Unknown keys are passed over, so that a newer service may say more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

StepValue = str | int | list[str]


@dataclass(frozen=True, slots=True)
class Model:
    """What gave an answer."""

    name: str
    hash: str
    """sha256 of the artifact's manifest."""

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From an answer's `model`."""
        return cls(value["name"], value["hash"])


@dataclass(frozen=True, slots=True)
class Result:
    """One pair's grade; `scored` is false, and the rest empty, where it was not scored in time (`partial` only)."""

    index: int
    """Its place in the request."""
    scored: bool
    score: float
    """Expected grade, calibrated, in [0, 1]; NaN where it was not scored."""
    grade: int
    """-1 where it was not scored."""
    grade_name: str
    distribution: Sequence[float]
    truncated: bool
    num_tokens: int
    handle: str | None
    """For `explain`, where it was asked for."""

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From one of an answer's `results`."""
        if not value["scored"]:
            return cls(value["index"], False, float("nan"), -1, "", (), False, 0, None)
        return cls(
            index=value["index"],
            scored=True,
            score=value["score"],
            grade=value["grade"],
            grade_name=value["grade_name"],
            distribution=tuple(value["distribution"]),
            truncated=value["truncated"],
            num_tokens=value["num_tokens"],
            handle=value.get("handle"),
        )


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """The answer to one request for scores."""

    results: Sequence[Result]
    """In input order."""
    coverage: float
    """Share of the pairs that were scored; below 1 with `partial` only."""
    model: Model
    usage: Mapping[str, Any]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From the body of an answer."""
        results = tuple(Result.read(one) for one in value["results"])
        return cls(results, value["coverage"], Model.read(value["model"]), value["usage"])


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document in its place, best first."""

    document: str
    result: Result


@dataclass(frozen=True, slots=True)
class Explained:
    """A whole explanation."""

    grade: int
    grade_name: str
    explain_id: str
    steps: Mapping[str, StepValue]
    """`wants`, the criteria, `evidence`, `missing` and `verdict`, in their order."""
    usage: Mapping[str, int]
    timing: Mapping[str, float]
    resumed: bool
    source: str

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From the body of an answer, or one of its `results`."""
        return cls(
            grade=value["grade"],
            grade_name=value["grade_name"],
            explain_id=value["explain_id"],
            steps=value["explanation"],
            usage=value["usage"],
            timing=value["timing"],
            resumed=value["resumed"],
            source=value["source"],
        )


def rank(documents: Sequence[str], answer: ScoreAnswer, top_n: int | None) -> list[Ranked]:
    """Documents by score, best first; equal scores stay in input order, those without a score are left out."""
    scored = sorted((one for one in answer.results if one.scored), key=lambda one: -one.score)
    return [Ranked(documents[one.index], one) for one in scored[:top_n]]
