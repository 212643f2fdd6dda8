"""The native dialect, POST /score: what comes in is validated here, what goes out is shaped here.

Strict: nothing is coerced, unknown keys are refused by name. An answer is built from plain dicts; its models
below only describe it in the OpenAPI document, and tests hold the two together.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from relevance.pair import Pair
from service.dialect import Ask, Dialect, Entry, Reply, ServedModel, Stamp, anything_else, has
from service.errors import FieldError, InvalidFieldsError, ServiceError
from service.score import NOT_SCORED, PairScores, ScoredRequest
from service.wire import (
    MAX_PRIORITY,
    Fields,
    Instruction,
    Query,
    StrictBody,
    TimeoutMs,
    refuse_too_many,
    validate,
)

UNSCORED = {
    "scored": False,
    "grade": None,
    "grade_name": None,
    "distribution": None,
    "score": None,
    "truncated": None,
    "num_tokens": None,
}
Explain = Annotated[
    bool, Field(description="Give each result a `handle`, with which /explain explains the grade that was given.")
]


NativePriority = Annotated[
    int, Field(ge=0, le=MAX_PRIORITY, description="0 is served before 1: give background work a higher number.")
]
Partial = Annotated[
    bool,
    Field(description="With a deadline: answer with what was scored by then, in request order, not with an error."),
]


class QueryDocuments(StrictBody):
    """One query, many documents."""

    query: Query
    documents: list[str] = Field(min_length=1, description="Texts to score; an empty text is scored like any other.")
    instruction: Instruction = None
    timeout_ms: TimeoutMs = None
    priority: NativePriority = 0
    partial: Partial = False
    explain: Explain = False


class QueryDocument(StrictBody):
    """One pair."""

    query: Query
    document: str


class QueryDocumentPairs(StrictBody):
    """Any pairs."""

    pairs: list[QueryDocument] = Field(min_length=1)
    instruction: Instruction = None
    timeout_ms: TimeoutMs = None
    priority: NativePriority = 0
    partial: Partial = False
    explain: Explain = False


class PairResult(StrictBody):
    """One pair's grade; all null but `index` where it was not scored in time (`partial` only)."""

    index: int = Field(description="Place of the pair in the request.")
    scored: bool = Field(description="False only with `partial`: the pair was not scored in time.")
    grade: int | None = Field(description="The most likely grade, 0 is the least relevant.")
    grade_name: str | None
    distribution: list[float] | None = Field(description="Calibrated probability of each grade, in grade order.")
    score: float | None = Field(ge=0.0, le=1.0, description="Calibrated expected grade, scaled to [0, 1].")
    truncated: bool | None = Field(description="The document was cut to fit the model.")
    num_tokens: int | None = Field(description="Tokens of the whole prompt: prefix segment and document segment.")
    handle: str | None = Field(default=None, description="With `explain` only: names this grade at /explain.")


class ModelInfo(StrictBody):
    """What gave the answer."""

    name: str
    hash: str = Field(description="sha256 of the artifact's manifest, which covers every file.")


class UsageInfo(StrictBody):
    """What the request cost."""

    prompt_tokens: int = Field(description="Each distinct prefix once, each distinct pair's document segment once.")
    cached_tokens: int = Field(description="Those of them that were not computed for this request.")
    num_pairs: int
    num_distinct_pairs: int
    num_cached_pairs: int = Field(description="Distinct pairs whose score was held, or under way for another request.")
    cache_hit_ratio: float = Field(description="Their share.")
    query_truncated: bool = Field(description="A query was cut to fit the model.")


class ScoreAnswer(StrictBody):
    """The answer of POST /score."""

    results: list[PairResult] = Field(description="One per pair, in input order.")
    coverage: float = Field(description="Share of pairs that were scored; less than 1 only with `partial`.")
    model: ModelInfo
    usage: UsageInfo


class FieldDetail(StrictBody):
    """One field at fault."""

    field: str
    message: str


class ErrorInfo(StrictBody):
    """What went wrong."""

    code: str
    message: str
    field: str | None = Field(default=None, description="The first field at fault, as in `documents.3`.")
    details: list[FieldDetail] | None = Field(default=None, description="Every field at fault, if there are several.")


class ErrorAnswer(StrictBody):
    """The body of every error."""

    error: ErrorInfo


def read(fields: Fields, served: ServedModel) -> Ask:
    """The pairs of a request, in input order.

    Raises:
        InvalidFieldsError: it is no request; every field at fault is named.
    """
    body = _body_of(fields, served.max_documents)
    if isinstance(body, QueryDocuments):
        pairs = [Pair(body.query, document, body.instruction) for document in body.documents]
    else:
        pairs = [Pair(pair.query, pair.document, body.instruction) for pair in body.pairs]

    def write(scored: ScoredRequest, _: Stamp) -> Reply:
        return Reply(_score_answer(scored, served))

    return Ask(
        pairs,
        write,
        timeout_ms=body.timeout_ms,
        priority=body.priority,
        is_partial=body.partial,
        wants_handles=body.explain,
    )


def _body_of(fields: Fields, max_documents: int) -> QueryDocuments | QueryDocumentPairs:
    if "pairs" not in fields:
        refuse_too_many(fields, ["documents"], max_documents)
        return validate(QueryDocuments, fields)
    both = [name for name in ("query", "documents") if name in fields]
    if both:
        raise InvalidFieldsError([FieldError(name, "give query and documents, or pairs, not both") for name in both])
    refuse_too_many(fields, ["pairs"], max_documents)
    return validate(QueryDocumentPairs, fields)


def _score_answer(scored: ScoredRequest, served: ServedModel) -> dict[str, Any]:
    usage = scored.usage
    results = _results(scored.pairs, served.grade_names)
    if scored.handles is not None:
        results = [{**result, "handle": handle} for result, handle in zip(results, scored.handles, strict=True)]
    return {
        "results": results,
        "coverage": scored.pairs.num_scored / usage.num_pairs,
        "model": {"name": served.name, "hash": served.hash},
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "num_pairs": usage.num_pairs,
            "num_distinct_pairs": usage.num_distinct_pairs,
            "num_cached_pairs": usage.num_cached_pairs,
            "cache_hit_ratio": usage.num_cached_pairs / usage.num_distinct_pairs,
            "query_truncated": usage.query_truncated,
        },
    }


def _results(pairs: PairScores, grade_names: Sequence[str]) -> list[dict[str, Any]]:
    columns = zip(
        pairs.grades.tolist(),
        pairs.distribution.tolist(),
        pairs.scores.tolist(),
        pairs.truncated,
        pairs.num_tokens,
        strict=True,
    )
    return [
        {
            "index": index,
            "scored": True,
            "grade": grade,
            "grade_name": grade_names[grade],
            "distribution": distribution,
            "score": score,
            "truncated": truncated,
            "num_tokens": num_tokens,
        }
        if grade != NOT_SCORED
        else {"index": index, **UNSCORED}
        for index, (grade, distribution, score, truncated, num_tokens) in enumerate(columns)
    ]


def refuse(error: ServiceError, _: Stamp) -> Reply:
    """`{"error": {"code", "message", "field", "details"}}`."""
    return Reply(error_answer(error.code, str(error), error.field_errors), error.status)


def error_answer(code: str, message: str, field_errors: Sequence[FieldError]) -> dict[str, Any]:
    """The body of an `ErrorAnswer`."""
    error: dict[str, Any] = {"code": code, "message": message}
    if field_errors:
        error["field"] = field_errors[0].field
    if len(field_errors) > 1:
        error["details"] = [{"field": one.field, "message": one.message} for one in field_errors]
    return {"error": error}


REQUEST_MODELS: tuple[type[BaseModel], ...] = (QueryDocuments, QueryDocumentPairs)

DIALECT = Dialect(
    name="native",
    entries=[
        Entry(
            paths={"/score": anything_else, "/invocations": has("pairs")},
            requests=REQUEST_MODELS,
            answer=ScoreAnswer,
            summary="Grade documents for a query",
            read=read,
        )
    ],
    error=ErrorAnswer,
    refuse=refuse,
)
