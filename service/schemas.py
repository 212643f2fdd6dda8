"""The native wire format of POST /score: what comes in is validated here, what goes out is shaped here.

A request is parsed by orjson (which refuses lone surrogates, NaN and bytes that are not UTF-8) and checked by
pydantic in strict mode: nothing is coerced, unknown keys are refused by name. An answer is built from plain
dicts; its models below only describe it in the OpenAPI document, and tests hold the two together.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from relevance.pair import Pair
from service.errors import FieldError, InvalidFieldsError, InvalidJsonError
from service.score import PairScores, ScoredRequest

# A caller learns from the first few; a thousand null documents must not make a megabyte of answer.
MAX_FIELD_ERRORS = 20
MAX_FIELD_CHARACTERS = 100


def _refuse_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty or white space")
    return text


Query = Annotated[str, AfterValidator(_refuse_blank), Field(description="The search text; not blank.")]
Instruction = Annotated[
    str | None, Field(description="What counts as relevant, in the caller's words; null: the template's default.")
]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class QueryDocuments(_Wire):
    """One query, many documents."""

    query: Query
    documents: list[str] = Field(min_length=1, description="Texts to score; an empty text is scored like any other.")
    instruction: Instruction = None


class QueryDocument(_Wire):
    """One pair."""

    query: Query
    document: str


class QueryDocumentPairs(_Wire):
    """Any pairs."""

    pairs: list[QueryDocument] = Field(min_length=1)
    instruction: Instruction = None


class PairResult(_Wire):
    """One pair's grade."""

    index: int = Field(description="Place of the pair in the request.")
    grade: int = Field(description="The most likely grade, 0 is the least relevant.")
    grade_name: str
    distribution: list[float] = Field(description="Calibrated probability of each grade, in grade order.")
    score: float = Field(ge=0.0, le=1.0, description="Calibrated expected grade, scaled to [0, 1].")
    truncated: bool = Field(description="The document was cut to fit the model.")
    num_tokens: int = Field(description="Tokens of the whole prompt: prefix segment and document segment.")


class ModelInfo(_Wire):
    """What gave the answer."""

    name: str
    hash: str = Field(description="sha256 of the artifact's manifest, which covers every file.")


class UsageInfo(_Wire):
    """What the request cost."""

    prompt_tokens: int = Field(description="Each distinct prefix once, each distinct pair's document segment once.")
    cached_tokens: int = Field(description="Those of them whose KV another request had computed.")
    num_pairs: int
    num_distinct_pairs: int
    query_truncated: bool = Field(description="A query was cut to fit the model.")


class ScoreAnswer(_Wire):
    """The answer of POST /score."""

    results: list[PairResult] = Field(description="One per pair, in input order.")
    model: ModelInfo
    usage: UsageInfo


class FieldDetail(_Wire):
    """One field at fault."""

    field: str
    message: str


class ErrorInfo(_Wire):
    """What went wrong."""

    code: str
    message: str
    field: str | None = Field(default=None, description="The first field at fault, as in `documents.3`.")
    details: list[FieldDetail] | None = Field(default=None, description="Every field at fault, if there are several.")


class ErrorAnswer(_Wire):
    """The body of every error."""

    error: ErrorInfo


_QUERY_DOCUMENTS = TypeAdapter(QueryDocuments)
_QUERY_DOCUMENT_PAIRS = TypeAdapter(QueryDocumentPairs)
REQUEST_MODELS: tuple[type[BaseModel], ...] = (QueryDocuments, QueryDocumentPairs)


def parse_score_request(body: bytes, max_documents: int) -> list[Pair]:
    """The pairs of a request body, in input order.

    Raises:
        InvalidJsonError: the body is not JSON.
        InvalidFieldsError: it is, but not a request; every field at fault is named.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJsonError(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidFieldsError([FieldError("body", "must be a JSON object")])
    try:
        pairs = _pairs_of(fields, max_documents)
    except ValidationError as error:
        raise InvalidFieldsError(_field_errors(error)) from error
    return pairs


def _pairs_of(fields: Mapping[str, object], max_documents: int) -> list[Pair]:
    if "pairs" not in fields:
        _refuse_too_many("documents", fields, max_documents)
        request = _QUERY_DOCUMENTS.validate_python(fields)
        return [Pair(request.query, document, request.instruction) for document in request.documents]
    both = [name for name in ("query", "documents") if name in fields]
    if both:
        raise InvalidFieldsError([FieldError(name, "give query and documents, or pairs, not both") for name in both])
    _refuse_too_many("pairs", fields, max_documents)
    request_of_pairs = _QUERY_DOCUMENT_PAIRS.validate_python(fields)
    return [Pair(pair.query, pair.document, request_of_pairs.instruction) for pair in request_of_pairs.pairs]


def _refuse_too_many(name: str, fields: Mapping[str, object], max_documents: int) -> None:
    entries = fields.get(name)
    if isinstance(entries, list) and len(entries) > max_documents:
        raise InvalidFieldsError([FieldError(name, f"{len(entries)} entries, at most {max_documents} are taken")])


def _field_errors(error: ValidationError) -> list[FieldError]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        FieldError(".".join(map(str, one["loc"]))[:MAX_FIELD_CHARACTERS], one["msg"])
        for one in found[:MAX_FIELD_ERRORS]
    ]


def score_answer(scored: ScoredRequest, grade_names: Sequence[str], model: Mapping[str, str]) -> dict[str, Any]:
    """The body of a `ScoreAnswer`."""
    usage = scored.usage
    return {
        "results": _results(scored.pairs, grade_names),
        "model": model,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "num_pairs": usage.num_pairs,
            "num_distinct_pairs": usage.num_distinct_pairs,
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
            "grade": grade,
            "grade_name": grade_names[grade],
            "distribution": distribution,
            "score": score,
            "truncated": truncated,
            "num_tokens": num_tokens,
        }
        for index, (grade, distribution, score, truncated, num_tokens) in enumerate(columns)
    ]


def error_answer(code: str, message: str, field_errors: Sequence[FieldError]) -> dict[str, Any]:
    """The body of an `ErrorAnswer`."""
    error: dict[str, Any] = {"code": code, "message": message}
    if field_errors:
        error["field"] = field_errors[0].field
    if len(field_errors) > 1:
        error["details"] = [{"field": one.field, "message": one.message} for one in field_errors]
    return {"error": error}
