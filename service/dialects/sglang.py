"""SGLang's scores, POST /score and /v1/score with `label_token_ids`: a probability per label token and item.

The head holds the rows of the grade scale's tokens only, so the ids asked for must be among them, and what is given
is the calibrated distribution over the scale. `apply_softmax` renormalises it over the ids asked for; without it
SGLang gives probabilities over the whole vocabulary, here they stay those of the scale.
"""

from typing import Any, Literal

import numpy as np
from pydantic import AliasChoices, BaseModel, Field
from typing_extensions import TypedDict

from relevance.pair import Pair
from service.dialect import Ask, Dialect, Entry, Reply, ServedModel, Stamp, has
from service.errors import FieldError, InvalidFieldsError, ServiceError
from service.score import ScoredRequest
from service.wire import Fields, InstructionAlias, Query, StringOrStrings, TolerantBody, refuse_too_many, validate

CLAIM = has("label_token_ids")


class SglangScore(TolerantBody):
    """One query, its items, and the label tokens to give the probability of."""

    query: Query
    items: StringOrStrings = Field(
        min_length=1, validation_alias=AliasChoices("items", "documents"), description="Documents."
    )
    label_token_ids: list[int] = Field(min_length=1, description="Token ids of grades: docs/api.md says which.")
    apply_softmax: bool | None = Field(default=None, description="Let the probabilities of each item sum to 1.")
    item_first: bool | None = Field(default=None, description="Must be false: the template puts the query first.")
    instruction: InstructionAlias = None


class SglangAnswer(TypedDict):
    """The answer of a score request."""

    scores: list[list[float]]
    model: str
    usage: dict[str, int]
    object: Literal["scoring"]


class SglangError(BaseModel):
    """The body of every error."""

    object: Literal["error"]
    message: str
    type: str
    param: str | None
    code: int


def read(fields: Fields, served: ServedModel) -> Ask:
    """One query, its items, and the columns of the distribution asked for."""
    refuse_too_many(fields, ["items", "documents", "label_token_ids"], served.max_documents)
    body = validate(SglangScore, fields)
    if body.item_first:
        raise InvalidFieldsError([FieldError("item_first", "must be false: the template puts the query first")])
    columns = _columns(body.label_token_ids, served)

    def write(scored: ScoredRequest, _: Stamp) -> Reply:
        probabilities = scored.pairs.distribution[:, columns]
        if body.apply_softmax:
            # Never 0/0: a grade's probability may round to 0, in float64 not that of all grades asked for.
            probabilities = probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-300)
        num_tokens = scored.usage.prompt_tokens
        answer = {
            "scores": probabilities.tolist(),
            "model": served.name,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            "object": "scoring",
        }
        return Reply(answer)

    pairs = [Pair(body.query, item, body.instruction) for item in body.items]
    return Ask(pairs, write, timeout_ms=body.timeout_ms, priority=body.priority or 0)


def _columns(label_token_ids: list[int], served: ServedModel) -> list[int]:
    column_of = {token_id: column for column, token_id in enumerate(served.label_token_ids)}
    unknown = [token_id for token_id in label_token_ids if token_id not in column_of]
    if unknown:
        grades = ", ".join(f"{token} ({name})" for token, name in zip(column_of, served.grade_names, strict=True))
        raise InvalidFieldsError(
            [FieldError("label_token_ids", f"{unknown[0]} is no grade of this model; its grades are {grades}")]
        )
    return [column_of[token_id] for token_id in label_token_ids]


def refuse(error: ServiceError, _: Stamp) -> Reply:
    """`{"object": "error", "message", "type", "param", "code"}`; what is no request is 400, as with SGLang."""
    status = 400 if error.status == InvalidFieldsError.status else error.status
    param = error.field_errors[0].field if error.field_errors else None
    kind = "BadRequestError" if status < 500 else "InternalServerError"
    answer: dict[str, Any] = {"object": "error", "message": str(error), "type": kind, "param": param, "code": status}
    return Reply(answer, status)


DIALECT = Dialect(
    name="sglang",
    entries=[
        Entry(
            paths={"/score": CLAIM, "/v1/score": CLAIM, "/invocations": CLAIM},
            requests=[SglangScore],
            answer=SglangAnswer,
            summary="Probability of label tokens, as SGLang does",
            read=read,
        )
    ],
    error=SglangError,
    refuse=refuse,
)
