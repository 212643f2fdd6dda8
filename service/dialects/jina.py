"""Jina and Cohere v1: POST /v1/rerank, and POST /rerank with `documents`. The one answer serves vLLM's and Infinity's
clients too.

`object` is "rerank", never "list". A document is repeated on request only, as an object, never null. An error has
`detail`, `message` and `id`; on 422 `detail` is FastAPI's list, which Infinity's client parses.
"""

from typing import Any, Literal

from pydantic import BaseModel
from typing_extensions import TypedDict

from service.dialect import Ask, Dialect, Entry, Reply, ServedModel, Stamp, anything_else, has
from service.errors import FieldError, InvalidFieldsError, ServiceError
from service.ranking import RankedDocument, RerankBody, meta, ranked_documents, warnings_of
from service.score import ScoredRequest
from service.wire import Fields, refuse_too_many, validate


class JinaUsage(TypedDict):
    """What the request cost."""

    prompt_tokens: int
    total_tokens: int


class JinaAnswer(TypedDict):
    """The answer of a rerank request."""

    id: str
    object: Literal["rerank"]
    model: str
    created: int
    usage: JinaUsage
    results: list[RankedDocument]
    meta: dict[str, Any]


class JinaFieldError(BaseModel):
    """One field at fault, in FastAPI's form."""

    loc: list[str | int]
    msg: str
    type: str


class JinaError(BaseModel):
    """The body of every error."""

    id: str
    message: str
    detail: str | list[JinaFieldError]


def read(fields: Fields, served: ServedModel) -> Ask:
    """One query and its documents."""
    refuse_too_many(fields, ["documents"], served.max_documents)
    body = validate(RerankBody, fields)

    def write(scored: ScoredRequest, stamp: Stamp) -> Reply:
        num_tokens = scored.usage.prompt_tokens
        answer = {
            "id": f"rerank-{stamp.id}",
            "object": "rerank",
            "model": served.name,
            "created": stamp.created,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            "results": ranked_documents(body, scored, served),
            "meta": meta("1", scored, warnings_of(body, fields, scored)),
        }
        return Reply(answer)

    return Ask(body.pairs(), write, body.cut, body.timeout_ms, body.priority or 0)


def refuse(error: ServiceError, stamp: Stamp) -> Reply:
    """`{"id", "message", "detail"}`."""
    is_invalid = error.status == InvalidFieldsError.status
    detail = [_detail(one) for one in error.field_errors] if is_invalid else str(error)
    return Reply({"id": stamp.id, "message": str(error), "detail": detail}, error.status)


def _detail(error: FieldError) -> dict[str, Any]:
    path = [] if error.field == "body" else error.field.split(".")
    loc = ["body", *(int(part) if part.isdecimal() else part for part in path)]
    return {"loc": loc, "msg": error.message, "type": error.kind}


DIALECT = Dialect(
    name="jina",
    entries=[
        Entry(
            paths={
                "/v1/rerank": anything_else,
                "/rerank": has("documents", lacks=["texts"]),
                "/invocations": anything_else,
            },
            requests=[RerankBody],
            answer=JinaAnswer,
            summary="Rerank documents, as Jina, Cohere v1, vLLM and Infinity do",
            read=read,
        )
    ],
    error=JinaError,
    refuse=refuse,
    families=["/v1/rerank"],
)
