"""Text Embeddings Inference: POST /rerank with `texts`, POST /predict, GET /info.

A ranking is a bare list of all texts, best first. `raw_scores` gives log-odds (see `service.ranking`); from /predict,
which answers with the probability of every grade, it gives their natural logarithms. Times stand in the headers,
in whole milliseconds.
"""

import math
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypedDict

from relevance.pair import Pair
from service.dialect import Ask, Dialect, Entry, Reply, ServedModel, Stamp, anything_else, has, native_extras
from service.errors import DeadlineExceededError, EngineFailedError, FieldError, InvalidFieldsError, ServiceError
from service.ranking import rank, raw_scores
from service.score import ScoredRequest
from service.tokenise import Cut
from service.version import VERSION
from service.wire import Fields, InstructionAlias, Query, TolerantBody, refuse_too_many, validate

SMALLEST_PROBABILITY = 1e-300
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8", "int4": "int4"}
ERROR_TYPES = {400: "Validation", 422: "Validation", 413: "Validation", 429: "Overloaded", 503: "Unhealthy"}
# TEI says 424 where a model fails: some clients retry every 5xx, so that what came too late is 429 here too.
STATUSES = {EngineFailedError.code: 424, DeadlineExceededError.code: 429}


def _capitalise(value: object) -> object:
    return value.capitalize() if isinstance(value, str) else value


class _Options(TolerantBody):
    raw_scores: bool | None = Field(default=None, description="Log-odds instead of scores.")
    truncate: bool | None = Field(default=None, description="False: refuse what is too long instead of cutting it.")
    truncation_direction: Annotated[Literal["Left", "Right"], BeforeValidator(_capitalise)] | None = Field(
        default=None, description="The end at which a text is cut."
    )
    instruction: InstructionAlias = None

    @property
    def cut(self) -> Cut:
        keep: Literal["start", "end"] = "end" if self.truncation_direction == "Left" else "start"
        return Cut(keep=keep, is_allowed=self.truncate is not False)


class TeiRerank(_Options):
    """One query and its texts."""

    query: Query
    texts: list[str] = Field(min_length=1)
    return_text: bool | None = Field(default=None, description="Give each result its text.")
    native: bool | None = Field(default=None, description="Give each result its grade and distribution too.")


class TeiPredict(_Options):
    """`[query, document]`, or a list of such pairs."""

    inputs: str | list[str] | list[list[str]] = Field(description="`[query, document]`, or a list of such pairs.")


class TeiRank(TypedDict):
    """One ranked text."""

    index: int
    score: float
    text: NotRequired[str]
    native: NotRequired[dict[str, Any]]


class TeiPrediction(TypedDict):
    """One grade of a pair."""

    label: str
    score: float


class TeiError(BaseModel):
    """The body of every error."""

    error: str
    error_type: Literal["Empty", "Validation", "Overloaded", "Backend", "Tokenizer", "Unhealthy"]


def read_rerank(fields: Fields, served: ServedModel) -> Ask:
    """One query and its texts."""
    refuse_too_many(fields, ["texts"], served.max_documents)
    body = validate(TeiRerank, fields)
    pairs = [Pair(body.query, text, body.instruction) for text in body.texts]

    def write(scored: ScoredRequest, _: Stamp) -> Reply:
        scores = scored.pairs.scores
        shown = raw_scores(scores) if body.raw_scores else scores
        ranks: list[dict[str, Any]] = []
        for index in rank(scores):
            found: dict[str, Any] = {"index": index, "score": float(shown[index])}
            if body.return_text:
                found["text"] = body.texts[index]
            if body.native:
                found["native"] = native_extras(scored, index, served)
            ranks.append(found)
        return Reply(ranks, headers=_headers(pairs, scored))

    return Ask(pairs, write, body.cut, body.timeout_ms, body.priority or 0)


def read_predict(fields: Fields, served: ServedModel) -> Ask:
    """Pairs as lists of two strings."""
    refuse_too_many(fields, ["inputs"], max(2, served.max_documents))
    body = validate(TeiPredict, fields)
    inputs = body.inputs
    is_batch = isinstance(inputs, list) and not any(isinstance(one, str) for one in inputs)
    if is_batch and not inputs:
        raise InvalidFieldsError([FieldError("inputs", "cannot be empty", "too_short")])
    pairs = [_pair(one, body.instruction) for one in (inputs if is_batch else [inputs])]

    def write(scored: ScoredRequest, _: Stamp) -> Reply:
        predictions = [_predictions(row, served, bool(body.raw_scores)) for row in scored.pairs.distribution.tolist()]
        return Reply(predictions if is_batch else predictions[0], headers=_headers(pairs, scored))

    return Ask(pairs, write, body.cut, body.timeout_ms, body.priority or 0)


def _pair(texts: object, instruction: str | None) -> Pair:
    if not isinstance(texts, list) or len(texts) != 2:
        raise InvalidFieldsError([FieldError("inputs", "must be [query, document], or a list of such pairs")])
    query, document = texts
    if not query.strip():
        raise InvalidFieldsError([FieldError("inputs", "a query must not be empty or white space", "blank")])
    return Pair(query, document, instruction)


def _predictions(distribution: list[float], served: ServedModel, is_raw: bool) -> list[dict[str, Any]]:
    ordered = sorted(enumerate(distribution), key=lambda one: -one[1])
    return [
        {
            "label": served.grade_names[grade],
            "score": math.log(max(probability, SMALLEST_PROBABILITY)) if is_raw else probability,
        }
        for grade, probability in ordered
    ]


def _headers(pairs: list[Pair], scored: ScoredRequest) -> dict[str, str]:
    stages = scored.stages
    seconds = {
        "x-tokenization-time": stages.tokenise_s,
        "x-queue-time": stages.queue_s,
        "x-inference-time": stages.infer_s,
        "x-total-time": stages.tokenise_s + stages.queue_s + stages.infer_s,
    }
    return {
        **{name: str(round(1000 * took)) for name, took in seconds.items()},
        "x-compute-tokens": str(scored.usage.prompt_tokens),
        "x-compute-characters": str(sum(len(pair.query) + len(pair.document) for pair in pairs)),
    }


def info(served: ServedModel) -> dict[str, Any]:
    """The answer of GET /info."""
    grades = list(served.grade_names)
    return {
        "model_id": served.name,
        "model_sha": served.hash,
        "model_dtype": DTYPES[served.precision],
        "model_type": {
            "reranker": {
                "id2label": {str(grade): name for grade, name in enumerate(grades)},
                "label2id": {name: grade for grade, name in enumerate(grades)},
            }
        },
        # Admission counts tokens: this many of the longest pairs may wait.
        "max_concurrent_requests": max(1, served.max_waiting_tokens // served.max_tokens),
        "max_input_length": served.max_tokens,
        "max_batch_tokens": served.max_pack_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": served.max_documents,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": VERSION,
        "sha": None,
        "docker_label": None,
    }


def refuse(error: ServiceError, _: Stamp) -> Reply:
    """`{"error", "error_type"}`."""
    status = STATUSES.get(error.code, error.status)
    error_type = ERROR_TYPES.get(status, "Backend" if error.status >= 500 else "Validation")
    first = next(iter(error.field_errors), None)
    if first is not None and first.field in {"texts", "inputs"} and first.kind == "too_short":
        status, error_type = 400, "Empty"
    return Reply({"error": str(error), "error_type": error_type}, status)


DIALECT = Dialect(
    name="tei",
    entries=[
        Entry(
            paths={"/rerank": anything_else, "/invocations": has("texts")},
            requests=[TeiRerank],
            answer=list[TeiRank],
            summary="Rerank texts, as Text Embeddings Inference does",
            read=read_rerank,
        ),
        Entry(
            paths={"/predict": anything_else, "/invocations": has("inputs", lacks=["texts"])},
            requests=[TeiPredict],
            answer=list[TeiPrediction] | list[list[TeiPrediction]],
            summary="Probability of every grade, as Text Embeddings Inference does",
            read=read_predict,
        ),
    ],
    error=TeiError,
    refuse=refuse,
    facts={"/info": info},
)
