"""The routes: read the body, find its dialect, call the scorer. Nothing is decided here.

    POST each path of each dialect            scores of pairs
    GET  each fact of each dialect            what is served
    GET  /livez                               the process runs
    GET  /readyz, and /health and /ping       it may be sent traffic
    GET  /metrics                             Prometheus

A request whose client goes away while it waits is cancelled, and what has not been computed for it never is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from relevance.pair import Pair
from service.deadlines import HEADER, Deadlines
from service.deployment import Deployment
from service.dialect import Dialect, Reply, ServedModel, Stamp
from service.dispatch import Dispatch
from service.errors import (
    EngineDeadError,
    NotReadyError,
    ServiceError,
)
from service.live_model import LiveModel
from service.metrics import CONTENT_TYPE, Metrics
from service.openapi import request_schema, response_models
from service.readiness import Readiness
from service.request_body import read_body, unless_client_goes
from service.score import ScoredRequest, StageTimes
from service.tokenise import Cut
from service.trail import Trail, trail_of
from service.wire import as_fields, parse_json
from service.work import Terms

JSON = "application/json"
# nginx's word for a client that closed the connection; nobody is left to read it.
CLIENT_GONE_STATUS = 499
# Where a request's scope keeps the dialect its body was told to be.
DIALECT_KEY = "service.dialect"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the routes are made of."""

    deployment: Deployment
    readiness: Readiness
    metrics: Metrics
    render_metrics: Callable[[], Awaitable[bytes]]
    dispatch: Dispatch
    max_body_bytes: int
    body_timeout_s: float
    deadlines: Deadlines
    clock: Callable[[], float]
    new_stamp: Callable[[], Stamp]
    give_handles: Callable[[LiveModel, Sequence[Pair], Cut, ScoredRequest], ScoredRequest]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response, encoded by orjson."""
    return Response(orjson.dumps(content), status, headers, JSON)


def reply_response(reply: Reply) -> Response:
    """What a dialect answers, encoded."""
    return json_response(reply.body, reply.status, reply.headers)


def create_router(endpoints: Endpoints) -> APIRouter:
    """All routes of the service."""
    router = APIRouter()
    router.include_router(_score_router(endpoints))
    router.include_router(_facts_router(endpoints))
    router.include_router(_probe_router(endpoints))
    return router


def _score_router(endpoints: Endpoints) -> APIRouter:
    router = APIRouter(tags=["scoring"])
    for path in endpoints.dispatch.paths:
        entries = [entry for _, entry in endpoints.dispatch.entries(path)]
        router.add_api_route(
            path,
            _score_endpoint(endpoints, path),
            methods=["POST"],
            name=f"post {path}",
            operation_id=f"post{path.replace('/', '_')}",
            summary=entries[-1].summary,
            description="; or: ".join(entry.summary for entry in reversed(entries)),
            response_class=Response,
            responses=response_models(endpoints.dispatch, path),
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {JSON: {"schema": request_schema([m for e in reversed(entries) for m in e.requests])}},
                }
            },
        )
    return router


def _score_endpoint(endpoints: Endpoints, path: str) -> Callable[[Request], Awaitable[Response]]:
    async def score(request: Request) -> Response:
        try:
            return await _score(endpoints, path, request)
        except ClientDisconnect:
            endpoints.metrics.count_request("cancelled")
            return Response(status_code=CLIENT_GONE_STATUS)
        except asyncio.CancelledError:
            endpoints.metrics.count_request("cancelled")
            raise

    return score


async def _score(endpoints: Endpoints, path: str, request: Request) -> Response:
    started_at = endpoints.clock()
    deadlines = endpoints.deadlines
    header_ms = deadlines.read_header(request.headers.get(HEADER))
    patience_s = min(endpoints.body_timeout_s, deadlines.timeout_s(header_ms, None))
    body = await read_body(request, endpoints.max_body_bytes, patience_s)
    fields = as_fields(parse_json(body))
    dialect, entry = endpoints.dispatch.match(path, fields)
    request.scope[DIALECT_KEY] = dialect  # from here on an error takes its shape
    if not endpoints.readiness.is_serving:
        raise refusal(endpoints.readiness)
    with endpoints.deployment.lease() as model:
        ask = entry.read(fields, model.served)
        trail = trail_of(request.scope)
        trail.charge_documents(len(ask.pairs))
        timeout_s = deadlines.timeout_s(header_ms, ask.timeout_ms)
        deadline = deadlines.scored_by(started_at, timeout_s, len(ask.pairs))
        terms = Terms(deadline, ask.priority, ask.is_partial, keeps_kv=ask.wants_handles)
        scored = await unless_client_goes(request, model.scorer.score(ask.pairs, ask.cut, terms))
        if ask.wants_handles:
            scored = endpoints.give_handles(model, ask.pairs, ask.cut, scored)
    response = reply_response(ask.write(scored, endpoints.new_stamp()))
    _measure(endpoints, dialect, scored, response, started_at)
    _leave_trail(trail, dialect, scored, endpoints.clock())
    if trail.on_scored is not None:
        trail.on_scored(ask.pairs, ask.cut, scored)
    return response


def _measure(
    endpoints: Endpoints, dialect: Dialect, scored: ScoredRequest, response: Response, started_at: float
) -> None:
    """Say in the response's header and in the metrics where the time went and what was scored."""
    now = endpoints.clock()
    seconds = _stage_seconds(scored.stages, now)
    shown = {**seconds, "total": now - started_at}
    response.headers["Server-Timing"] = ", ".join(f"{stage};dur={1e3 * took:.3f}" for stage, took in shown.items())
    endpoints.deadlines.observe(scored.usage.num_pairs, seconds["post"])
    metrics = endpoints.metrics
    for stage, took in shown.items():
        metrics.observe_stage(stage, took)
    metrics.count_request("ok" if scored.pairs.num_scored == scored.usage.num_pairs else "partial")
    metrics.count_dialect(dialect.name)
    metrics.count_pairs(scored.usage.num_pairs, scored.usage.num_distinct_pairs, sum(scored.pairs.truncated))
    metrics.count_grades(scored.pairs.grades)


def _leave_trail(trail: Trail, dialect: Dialect, scored: ScoredRequest, now: float) -> None:
    trail.dialect = dialect.name
    trail.num_pairs = scored.usage.num_pairs
    trail.stage_seconds = _stage_seconds(scored.stages, now)
    trail.finished_at = now


def refusal(readiness: Readiness) -> ServiceError:
    """Why nothing is served."""
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


def _facts_router(endpoints: Endpoints) -> APIRouter:
    router = APIRouter(tags=["facts"])

    def fact_endpoint(tell: Callable[[ServedModel], Any]) -> Callable[[], Awaitable[Response]]:
        async def fact() -> Response:
            return json_response(tell(endpoints.deployment.current.served))

        return fact

    for dialect in endpoints.dispatch.dialects:
        for path, tell in dialect.facts.items():
            summary = f"What is served, as {dialect.name} tells it"
            router.add_api_route(path, fact_endpoint(tell), summary=summary, name=path, response_class=Response)
    return router


def _probe_router(endpoints: Endpoints) -> APIRouter:
    router = APIRouter(tags=["operations"])
    readiness = endpoints.readiness

    def status_response(is_good: bool) -> Response:
        status = readiness.status
        served = endpoints.deployment.current.served
        content = {
            "ready": readiness.is_ready,
            "stage": status.stage,
            "detail": status.detail,
            "model": {"name": served.name, "hash": served.hash},
        }
        return json_response(content, 200 if is_good else 503)

    @router.get("/livez", summary="The process runs", response_class=Response)
    async def livez() -> Response:
        """Answer 200 as long as the event loop turns."""
        return status_response(is_good=True)

    async def readyz() -> Response:
        """Answer 200 once warmed up and self-tested, else 503; the body names the stage."""
        return status_response(is_good=readiness.is_ready)

    # /health is what TEI's and vLLM's callers probe, /ping what SageMaker does.
    for path in ("/readyz", "/health", "/ping"):
        router.add_api_route(
            path, readyz, summary="Ready for traffic", response_class=Response, responses={503: {}}, name=path
        )

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        """The series listed in docs/api.md."""
        return Response(await endpoints.render_metrics(), headers={"content-type": CONTENT_TYPE})

    return router
