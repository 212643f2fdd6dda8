"""The routes: read the body, call the scorer, shape the answer. Nothing is decided here.

    POST /score     grades of pairs
    GET  /livez     the process runs
    GET  /readyz    it may be sent traffic
    GET  /metrics   Prometheus

A request whose client goes away while it waits is cancelled, and what has not been computed for it never is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic.json_schema import models_json_schema
from starlette.requests import ClientDisconnect

from service.errors import BodyTooLargeError, EngineDeadError, NotReadyError, ServiceError, concrete_errors
from service.metrics import CONTENT_TYPE, Metrics
from service.readiness import Readiness
from service.schemas import REQUEST_MODELS, ErrorAnswer, ScoreAnswer, parse_score_request, score_answer
from service.score import Scorer, StageTimes

JSON = "application/json"
# nginx's word for a client that closed the connection; nobody is left to read it.
CLIENT_GONE_STATUS = 499

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How much one request may bring."""

    max_body_bytes: int
    max_documents: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the routes are made of."""

    scorer: Scorer
    readiness: Readiness
    metrics: Metrics
    limits: RequestLimits
    model: Mapping[str, str]
    """Name and hash, as they stand in every answer."""
    clock: Callable[[], float]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response, encoded by orjson."""
    return Response(orjson.dumps(content), status, headers, JSON)


def create_router(endpoints: Endpoints) -> APIRouter:
    """All routes of the service."""
    router = APIRouter()
    router.include_router(_score_router(endpoints))
    router.include_router(_probe_router(endpoints))
    return router


def _score_router(endpoints: Endpoints) -> APIRouter:
    router = APIRouter(tags=["scoring"])
    statuses = sorted({error.status for error in concrete_errors()} - {404, 405})
    responses: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in statuses}

    @router.post(
        "/score",
        summary="Grade documents for a query",
        responses={200: {"model": ScoreAnswer}, **responses},
        response_class=Response,
        openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": request_schema()}}}},
    )
    async def score(request: Request) -> Response:
        """Score one query against many documents, or any pairs."""
        try:
            return await _score(endpoints, request)
        except ClientDisconnect:
            endpoints.metrics.count_request("cancelled")
            return Response(status_code=CLIENT_GONE_STATUS)
        except asyncio.CancelledError:
            endpoints.metrics.count_request("cancelled")
            raise

    return router


async def _score(endpoints: Endpoints, request: Request) -> Response:
    started_at = endpoints.clock()
    if not endpoints.readiness.is_ready:
        raise _refusal(endpoints.readiness)
    body = await read_body(request, endpoints.limits.max_body_bytes)
    pairs = parse_score_request(body, endpoints.limits.max_documents)
    scored = await unless_client_goes(request, endpoints.scorer.score(pairs))
    response = json_response(score_answer(scored, endpoints.scorer.scale.names, endpoints.model))
    now = endpoints.clock()
    seconds = _stage_seconds(scored.stages, now)
    response.headers["Server-Timing"] = ", ".join(f"{stage};dur={1e3 * took:.3f}" for stage, took in seconds.items())
    metrics = endpoints.metrics
    for stage, took in seconds.items():
        metrics.observe_stage(stage, took)
    metrics.observe_stage("total", now - started_at)
    metrics.count_request("ok")
    metrics.count_pairs(scored.usage.num_pairs, scored.usage.num_distinct_pairs, sum(scored.pairs.truncated))
    metrics.count_grades(scored.pairs.grades)
    return response


def _refusal(readiness: Readiness) -> ServiceError:
    status = readiness.status
    if status.stage == "failed":
        return EngineDeadError("the engine has ended; the service must be restarted")
    return NotReadyError(f"the service is not ready: {status.stage} ({status.detail})")


def _stage_seconds(stages: StageTimes, now: float) -> dict[str, float]:
    return {
        "tokenise": stages.tokenise_s,
        "queue": stages.queue_s,
        "infer": stages.infer_s,
        "post": now - stages.finished_at,
    }


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body, given up as soon as it is too large.

    Raises:
        BodyTooLargeError: more than `max_bytes`, announced or sent.
        ClientDisconnect: the client went away first.
    """
    announced = request.headers.get("content-length", "")
    too_large = BodyTooLargeError(f"the body is over {max_bytes} bytes")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


async def unless_client_goes(request: Request, answer: Awaitable[T]) -> T:
    """Await `answer`, cancelling it when the client disconnects; the body must have been read.

    Raises:
        ClientDisconnect: it did.
    """
    answering = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        watching.cancel()
        answering.cancel()


def _probe_router(endpoints: Endpoints) -> APIRouter:
    router = APIRouter(tags=["operations"])
    readiness = endpoints.readiness

    def status_response(is_good: bool) -> Response:
        status = readiness.status
        content = {
            "ready": readiness.is_ready,
            "stage": status.stage,
            "detail": status.detail,
            "model": endpoints.model,
        }
        return json_response(content, 200 if is_good else 503)

    @router.get("/livez", summary="The process runs", response_class=Response)
    async def livez() -> Response:
        """Answer 200 as long as the event loop turns."""
        return status_response(is_good=True)

    @router.get("/readyz", summary="Ready for traffic", response_class=Response, responses={503: {}})
    async def readyz() -> Response:
        """Answer 200 once warmed up and self-tested, else 503; the body names the stage."""
        return status_response(is_good=readiness.is_ready)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        """The series listed in docs/api.md."""
        return Response(endpoints.metrics.render(), headers={"content-type": CONTENT_TYPE})

    return router


def request_schema() -> dict[str, Any]:
    """JSON schema of a /score body with every reference resolved in place."""
    _, schema = models_json_schema([(model, "validation") for model in REQUEST_MODELS])
    definitions = schema["$defs"]

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(child) for child in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rsplit("/", 1)[-1]])
        return {key: resolve(child) for key, child in node.items()}

    return {"oneOf": [resolve(definitions[model.__name__]) for model in REQUEST_MODELS]}
