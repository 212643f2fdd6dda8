"""What POST /explain takes and what it answers: the models, and the reading of a body into what is to be explained.

Four forms, told apart by their fields: a handle, a pair, several handles, several pairs. Strict as /score is: nothing
is coerced, an unknown key is refused by name. The models of answers describe them in the OpenAPI document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from relevance.pair import Pair
from service.dialects.native import ErrorAnswer, ErrorInfo, ModelInfo, QueryDocument
from service.errors import FieldError, InvalidFieldsError
from service.explain_api.handles import MAX_SEED, MAX_TOKENS, Handle, HandleError, Signer
from service.wire import Fields, Instruction, Query, StrictBody, TimeoutMs, refuse_too_many, validate

MAX_BATCH = 100
MAX_TEMPERATURE = 2.0
MAX_HANDLE_CHARACTERS = 200

HandleText = Annotated[str, Field(max_length=MAX_HANDLE_CHARACTERS, description="`handle` of a result of /score.")]


class _Explained(StrictBody):
    """How to explain."""

    max_tokens: int | None = Field(
        default=None, ge=1, le=MAX_TOKENS, description="Tokens of the explanation; null: as many as the format allows."
    )
    temperature: float = Field(
        default=0.0, ge=0.0, le=MAX_TEMPERATURE, description="0: the likeliest token that the format allows."
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="The same seed gives the same explanation; null: one is drawn."
    )
    timeout_ms: TimeoutMs = None


class ExplainHandle(_Explained):
    """One grade that was given; with the texts, if the service need not remember them."""

    handle: HandleText
    query: Query | None = None
    document: str | None = None
    instruction: Instruction = None


class ExplainPair(_Explained):
    """One pair, which is scored first."""

    query: Query
    document: str
    instruction: Instruction = None
    grade: int | None = Field(default=None, ge=0, description="The grade that was given; refused if it was another.")


class ExplainHandles(_Explained):
    """Several grades that were given."""

    handles: list[HandleText] = Field(min_length=1, max_length=MAX_BATCH)


class ExplainPairs(_Explained):
    """Several pairs, which are scored first."""

    pairs: list[QueryDocument] = Field(min_length=1, max_length=MAX_BATCH)
    instruction: Instruction = None


class StepsInfo(StrictBody):
    """What an explanation says."""

    wants: str = Field(description="What the query asks for.")
    exactness: int = Field(ge=0, le=3, description="How precisely the document answers.")
    coverage: int = Field(ge=0, le=3, description="How much of the query it answers.")
    topicality: int = Field(ge=0, le=3, description="Whether it is about the query's subject.")
    context: int = Field(ge=0, le=3, description="Whether it gives what is needed around the answer.")
    evidence: list[str] = Field(description="Quotes of the document.")
    missing: list[str] = Field(description="Terms of the query that the document lacks.")
    verdict: int = Field(description="The grade that was given.")


class ExplainUsage(StrictBody):
    """What the decode cost, whoever asked for it first."""

    prompt_tokens: int
    cached_tokens: int = Field(description="Those of them whose KV was held.")
    completion_tokens: int
    forced_tokens: int = Field(description="Those of them that the format left no choice about.")
    decode_steps: int


class ExplainTiming(StrictBody):
    """Where the decode's time went, in milliseconds from its admission."""

    queue_ms: float
    first_token_ms: float
    total_ms: float


class GradeInfo(StrictBody):
    """What is explained, and where its stream is."""

    grade: int
    grade_name: str
    explain_id: str = Field(description="Names this explanation; good as long as its handle.")
    stream_url: str = Field(description="GET it for the events.")


class ExplainedInfo(GradeInfo):
    """A whole explanation."""

    explanation: StepsInfo
    usage: ExplainUsage
    timing: ExplainTiming
    resumed: bool = Field(description="It went on from the KV of the scored pair.")
    source: str = Field(description="`decoded` for this request, `shared` with one under way, or `cached`.")


class ExplainAnswer(ExplainedInfo):
    """The answer as JSON to one handle or pair."""

    model: ModelInfo


class BatchExplained(ExplainedInfo):
    """One of several."""

    index: int = Field(description="Place in the request.")


class BatchFailed(GradeInfo):
    """One of several that has no explanation."""

    index: int = Field(description="Place in the request.")
    error: ErrorInfo


class BatchAnswer(StrictBody):
    """The answer as JSON to several."""

    results: list[BatchExplained | BatchFailed]
    model: ModelInfo


class LaterAnswer(GradeInfo):
    """Where the explanation can be read."""

    model: ModelInfo


class LaterItem(GradeInfo):
    """One of several."""

    index: int


class LaterBatchAnswer(StrictBody):
    """Where several explanations can be read."""

    results: list[LaterItem]
    model: ModelInfo


ANSWERS = ExplainAnswer | BatchAnswer
LATER = LaterAnswer | LaterBatchAnswer
ERROR = ErrorAnswer
REQUESTS: tuple[type[StrictBody], ...] = (ExplainHandle, ExplainPair, ExplainHandles, ExplainPairs)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing to explain: a handle, a pair, or a handle with its pair."""

    field: str
    """Where it stands in the body; empty for the body itself."""
    handle: Handle | None = None
    pair: Pair | None = None
    grade: int | None = None
    """What the caller says was given."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a body asks for."""

    wanted: Sequence[Wanted]
    is_batch: bool
    max_tokens: int | None
    temperature: float
    seed: int | None
    timeout_ms: int | None


def read_order(fields: Fields, signer: Signer) -> Order:
    """What `fields` ask for.

    Raises:
        InvalidFieldsError: they are no request; every field at fault is named.
    """
    given = [name for name in ("handle", "handles", "pairs") if name in fields]
    if len(given) > 1:
        raise InvalidFieldsError([FieldError(name, "give a handle, handles, a pair or pairs") for name in given])
    refuse_too_many(fields, ["handles", "pairs"], MAX_BATCH)
    if "handle" in fields:
        one = validate(ExplainHandle, fields)
        return _order(one, [_wanted_handle(one, signer)])
    if "handles" in fields:
        several = validate(ExplainHandles, fields)
        named = [(f"handles.{index}", text) for index, text in enumerate(several.handles)]
        return _order(several, [Wanted(field, _read_handle(text, signer, field)) for field, text in named], True)
    if "pairs" in fields:
        both = validate(ExplainPairs, fields)
        pairs = [Pair(pair.query, pair.document, both.instruction) for pair in both.pairs]
        return _order(both, [Wanted(f"pairs.{index}", pair=pair) for index, pair in enumerate(pairs)], True)
    pair = validate(ExplainPair, fields)
    return _order(pair, [Wanted("", pair=Pair(pair.query, pair.document, pair.instruction), grade=pair.grade)])


def _wanted_handle(body: ExplainHandle, signer: Signer) -> Wanted:
    handle = _read_handle(body.handle, signer, "handle")
    if body.query is None and body.document is None and body.instruction is None:
        return Wanted("handle", handle)
    absent = [name for name in ("query", "document") if getattr(body, name) is None]
    if body.query is None or body.document is None:
        raise InvalidFieldsError([FieldError(name, "goes with the other text of the pair") for name in absent])
    return Wanted("handle", handle, Pair(body.query, body.document, body.instruction))


def _read_handle(text: str, signer: Signer, field: str) -> Handle:
    try:
        return signer.read_handle(text)
    except HandleError as error:
        raise InvalidFieldsError([FieldError(field, f"is no handle: {error}")]) from error


def _order(body: _Explained, wanted: Sequence[Wanted], is_batch: bool = False) -> Order:
    return Order(wanted, is_batch, body.max_tokens, body.temperature, body.seed, body.timeout_ms)
