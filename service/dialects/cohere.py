"""Cohere v2, POST /v2/rerank: `cohere.ClientV2`, LangChain, LlamaIndex, Haystack, LiteLLM, Elasticsearch.

Every number of an answer that Cohere calls a double is written as one: OpenSearch casts without asking. Keys of a
result are `index`, `relevance_score` and, on request, `document` and `native`: Elasticsearch refuses any other.
"""

from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict

from service.dialect import Ask, Dialect, Entry, Reply, ServedModel, Stamp, anything_else
from service.errors import ServiceError
from service.ranking import RankedDocument, RerankBody, meta, ranked_documents, warnings_of
from service.score import ScoredRequest
from service.wire import Fields, refuse_too_many, validate


class CohereAnswer(TypedDict):
    """The answer of POST /v2/rerank."""

    id: str
    results: list[RankedDocument]
    meta: dict[str, Any]


class CohereError(BaseModel):
    """The body of every error."""

    id: str
    message: str


def read(fields: Fields, served: ServedModel) -> Ask:
    """One query and its documents."""
    refuse_too_many(fields, ["documents"], served.max_documents)
    body = validate(RerankBody, fields)

    def write(scored: ScoredRequest, stamp: Stamp) -> Reply:
        answer = {
            "id": stamp.id,
            "results": ranked_documents(body, scored, served),
            "meta": meta("2", scored, warnings_of(body, fields, scored)),
        }
        return Reply(answer)

    return Ask(body.pairs(), write, body.cut, body.timeout_ms, body.priority or 0)


def refuse(error: ServiceError, stamp: Stamp) -> Reply:
    """`{"id", "message"}`."""
    return Reply({"id": stamp.id, "message": str(error)}, error.status)


DIALECT = Dialect(
    name="cohere",
    entries=[
        Entry(
            paths={"/v2/rerank": anything_else},
            requests=[RerankBody],
            answer=CohereAnswer,
            summary="Rerank documents, as Cohere v2 does",
            read=read,
        )
    ],
    error=CohereError,
    refuse=refuse,
    families=["/v2/"],
)
