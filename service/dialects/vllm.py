"""vLLM's scores, POST /score and /v1/score with `queries`, `text_1` or `data_1`, and GET /v1/models, /version.

One query with N documents, or N queries with N documents; answered in input order. vLLM's rerank requests are
those of `service.dialects.jina`.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

from relevance.pair import Pair
from service.dialect import Ask, Dialect, Entry, Reply, ServedModel, Stamp, anything_else, has, native_extras
from service.errors import FieldError, InvalidFieldsError, ServiceError
from service.ranking import TokenLimit, raw_scores
from service.score import ScoredRequest
from service.tokenise import Cut
from service.version import VERSION
from service.wire import (
    Fields,
    InstructionAlias,
    Query,
    StringOrStrings,
    TolerantBody,
    as_list,
    refuse_too_many,
    validate,
)

ERROR_TYPES = {401: "AuthenticationError", 404: "NotFoundError", 405: "MethodNotAllowedError", 429: "RateLimitError"}
QUERY_NAMES = ("queries", "text_1", "data_1")
DOCUMENT_NAMES = ("documents", "items", "text_2", "data_2")
# `documents` alone does not make a body vLLM's: the native dialect has it too.
CLAIM = has(*QUERY_NAMES, "items", "text_2", "data_2", lacks=["label_token_ids"])


class VllmScore(TolerantBody):
    """Queries and documents, each a string or a list of strings."""

    queries: Annotated[list[Query], BeforeValidator(as_list, json_schema_input_type=str | list[str])] = Field(
        min_length=1, validation_alias=AliasChoices(*QUERY_NAMES)
    )
    documents: StringOrStrings = Field(min_length=1, validation_alias=AliasChoices(*DOCUMENT_NAMES))
    instruction: InstructionAlias = None
    max_tokens_per_doc: TokenLimit = Field(
        default=None,
        validation_alias=AliasChoices("truncate_prompt_tokens", "max_tokens_per_doc"),
        description="Tokens of a document to read at most; -1 or null: what the model takes.",
    )
    use_activation: bool | None = Field(
        default=None,
        validation_alias=AliasChoices("use_activation", "activation"),
        description="False: log-odds instead of scores.",
    )
    native: bool | None = Field(default=None, description="Give each score its grade and distribution too.")


class VllmScoreData(TypedDict):
    """One pair's score."""

    index: int
    object: Literal["score"]
    score: float
    native: NotRequired[dict[str, Any]]


class VllmAnswer(TypedDict):
    """The answer of a score request."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[VllmScoreData]
    usage: dict[str, int]


class VllmErrorInfo(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: int


class VllmError(BaseModel):
    """The body of every error."""

    error: VllmErrorInfo


def read(fields: Fields, served: ServedModel) -> Ask:
    """Pairs of queries and documents."""
    refuse_too_many(fields, (*QUERY_NAMES, *DOCUMENT_NAMES), served.max_documents)
    body = validate(VllmScore, fields)
    queries, documents = body.queries, body.documents
    if len(queries) == 1:
        queries = queries * len(documents)
    if len(queries) != len(documents):
        message = f"{len(queries)} queries with {len(documents)} documents: must be 1:N or N:N"
        raise InvalidFieldsError([FieldError("documents", message)])
    pairs = [Pair(query, document, body.instruction) for query, document in zip(queries, documents, strict=True)]

    def write(scored: ScoredRequest, stamp: Stamp) -> Reply:
        num_tokens = scored.usage.prompt_tokens
        answer = {
            "id": f"score-{stamp.id}",
            "object": "list",
            "created": stamp.created,
            "model": served.name,
            "data": _data(body, scored, served),
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }
        return Reply(answer)

    cut = Cut(max_document_tokens=body.max_tokens_per_doc)
    return Ask(pairs, write, cut, body.timeout_ms, body.priority or 0)


def _data(body: VllmScore, scored: ScoredRequest, served: ServedModel) -> list[dict[str, Any]]:
    scores = scored.pairs.scores if body.use_activation is not False else raw_scores(scored.pairs.scores)
    data: list[dict[str, Any]] = []
    for index, score in enumerate(scores.tolist()):
        found = {"index": index, "object": "score", "score": score}
        if body.native:
            found["native"] = native_extras(scored, index, served)
        data.append(found)
    return data


def models(served: ServedModel) -> dict[str, Any]:
    """The answer of GET /v1/models."""
    model = {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "answer-first",
        "root": served.hash,
        "max_model_len": served.max_tokens,
    }
    return {"object": "list", "data": [model]}


def version(_: ServedModel) -> dict[str, Any]:
    """The answer of GET /version."""
    return {"version": VERSION}


def refuse(error: ServiceError, _: Stamp) -> Reply:
    """`{"error": {"message", "type", "param", "code"}}`; what is no request is 400, as with vLLM."""
    status = 400 if error.status == InvalidFieldsError.status else error.status
    kind = ERROR_TYPES.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    param = error.field_errors[0].field if error.field_errors else None
    return Reply({"error": {"message": str(error), "type": kind, "param": param, "code": status}}, status)


DIALECT = Dialect(
    name="vllm",
    entries=[
        Entry(
            paths={"/v1/score": anything_else, "/score": CLAIM, "/invocations": CLAIM},
            requests=[VllmScore],
            answer=VllmAnswer,
            summary="Score pairs, as vLLM does",
            read=read,
        )
    ],
    error=VllmError,
    refuse=refuse,
    facts={"/v1/models": models, "/version": version},
    families=["/v1/"],
)
