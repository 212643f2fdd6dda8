"""What the rerank dialects share: documents in, a ranking out.

score      the service's score: calibrated expected grade on [0, 1]
raw score  ln(score / (1 - score)): its log-odds, so that score = sigmoid(raw score), in the same order
ranking    by score, best first; equal scores stay in input order
"""

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired

import numpy as np
from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from relevance.pair import Pair
from relevance.scoring import FloatArray
from service.dialect import ServedModel, native_extras
from service.errors import FieldError, InvalidFieldsError
from service.score import ScoredRequest
from service.tokenise import Cut
from service.wire import Fields, InstructionAlias, Query, TolerantBody, unknown_fields

# Scores of exactly 0 and 1 have no finite log-odds, and JSON no infinity.
SMALLEST_ODDS = 1e-12
# JSON is read deeper than it can be written (orjson: 254 levels), so a document that is repeated must be shallower.
MAX_DEPTH = 100


def _string_or_object(value: object) -> object:
    if not isinstance(value, str | dict):
        raise PydanticCustomError("document_type", "must be a string or an object")
    return value


def _none_of_minus_one(value: object) -> object:
    return None if value == -1 else value


# vLLM's clients say -1 for "what the model takes".
TokenLimit = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_none_of_minus_one)]
Document = Annotated[str | dict[str, Any], BeforeValidator(_string_or_object)]


class RankedDocument(TypedDict):
    """One result: nothing but these keys, since Elasticsearch refuses any other."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, Any]]
    native: NotRequired[dict[str, Any]]


class RerankBody(TolerantBody):
    """The fields that Cohere's v1 and v2, Jina's and vLLM's rerank requests have between them."""

    query: Query
    documents: list[Document] = Field(
        min_length=1, description="Strings, or objects with `text` or with the `rank_fields`."
    )
    model: str | None = Field(default=None, description="Taken and ignored: one model is served.")
    top_n: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("top_n", "top_k"),
        description="How many results to return, best first; `top_k` is the same; null: all.",
    )
    return_documents: bool | None = Field(default=None, description="Give each result its document.")
    rank_fields: list[str] | None = Field(
        default=None, min_length=1, description="Fields of an object document to score, in this order."
    )
    max_tokens_per_doc: TokenLimit = Field(
        default=None,
        validation_alias=AliasChoices("max_tokens_per_doc", "truncate_prompt_tokens"),
        description="Tokens of a document to read at most.",
    )
    instruction: InstructionAlias = None
    native: bool | None = Field(default=None, description="Give each result its grade and distribution too.")
    max_chunks_per_doc: int | None = Field(default=None, description="Taken and ignored: documents are not chunked.")

    @property
    def cut(self) -> Cut:
        """How long documents are cut."""
        return Cut(max_document_tokens=self.max_tokens_per_doc)

    def pairs(self) -> list[Pair]:
        """The pairs, in input order.

        Raises:
            InvalidFieldsError: an object document without a text to score, or one that could not be given back.
        """
        if self.return_documents:
            _refuse_deep(self.documents)
        return [
            Pair(self.query, text_of(document, self.rank_fields, index), self.instruction)
            for index, document in enumerate(self.documents)
        ]

    def document_of(self, index: int) -> dict[str, Any]:
        """A document as an answer repeats it: always an object."""
        document = self.documents[index]
        return {"text": document} if isinstance(document, str) else document


def text_of(document: str | dict[str, Any], rank_fields: Sequence[str] | None, index: int) -> str:
    """The text of a document that is scored: the string, the object's `text`, or its `rank_fields` one per line.

    Raises:
        InvalidFieldsError: an object that has none of these, or not as strings.
    """
    if isinstance(document, str):
        return document
    names = rank_fields or ["text"]
    texts = [document[name] for name in names if name in document]
    if not texts or not all(isinstance(text, str) for text in texts):
        wanted = ", ".join(names)[:100]
        raise InvalidFieldsError([FieldError(f"documents.{index}", f"must have text in {wanted}", "missing")])
    return "\n".join(texts)


def _refuse_deep(documents: Sequence[object]) -> None:
    for index, document in enumerate(documents):
        if _is_deeper(document, MAX_DEPTH):
            message = f"is nested over {MAX_DEPTH} levels deep, too many to be given back"
            raise InvalidFieldsError([FieldError(f"documents.{index}", message)])


def _is_deeper(value: object, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)


def rank(scores: FloatArray, top_n: int | None = None) -> list[int]:
    """Indices of the `top_n` best of `scores` [N], best first; ties keep their order."""
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order[:top_n]


def raw_scores(scores: FloatArray) -> FloatArray:
    """Log-odds of `scores` [N], finite."""
    clipped = np.clip(scores, SMALLEST_ODDS, 1 - SMALLEST_ODDS)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def warnings_of(body: TolerantBody, fields: Fields, scored: ScoredRequest) -> list[str]:
    """What a caller should know of an answer that is not an error."""
    warnings = [f"unknown field {name!r} was ignored" for name in unknown_fields(type(body), fields)]
    if fields.get("max_chunks_per_doc"):
        warnings.append("max_chunks_per_doc has no effect here")
    if scored.usage.query_truncated:
        warnings.append("the query was cut to fit the model")
    num_cut = sum(scored.pairs.truncated)
    if num_cut:
        warnings.append(f"{num_cut} of {len(scored.pairs.truncated)} documents were cut")
    return warnings


def ranked_documents(body: RerankBody, scored: ScoredRequest, served: ServedModel) -> list[dict[str, Any]]:
    """The results that `body` asks for, best first."""
    scores = scored.pairs.scores
    results: list[dict[str, Any]] = []
    for index in rank(scores, body.top_n):
        result: dict[str, Any] = {"index": index, "relevance_score": float(scores[index])}
        if body.return_documents:
            result["document"] = body.document_of(index)
        if body.native:
            result["native"] = native_extras(scored, index, served)
        results.append(result)
    return results


def meta(version: str, scored: ScoredRequest, warnings: list[str]) -> dict[str, Any]:
    """Version, cost, and `warnings` if there are any."""
    found: dict[str, Any] = {
        "api_version": {"version": version},
        "billed_units": {"search_units": 1.0},
        "tokens": {"input_tokens": float(scored.usage.prompt_tokens), "output_tokens": 0.0},
    }
    return {**found, "warnings": warnings} if warnings else found
