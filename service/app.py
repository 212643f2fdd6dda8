"""The composition root: builds everything once, wires it, and maps errors to HTTP. Importing it does nothing.

    app = create_app(Settings(artifact=Path("artifacts/default")))

Lifespan: the engine thread starts with the server, so /livez and /readyz answer while the model loads, warms up
and tests itself. When that fails, or the engine thread dies later, readiness is gone for good and `on_fatal` is
told; what becomes of the process is the caller's business (`service.__main__` exits).
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from engine.base import Engine
from engine.ort import OrtEngine
from relevance.artifact import Artifact, load_artifact
from service.assembly import Assembler, new_stamp
from service.deployment import Deployment
from service.dialect import Dialect
from service.dialects import discover
from service.dispatch import Dispatch
from service.errors import (
    InternalError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceError,
    UnauthorizedError,
    concrete_errors,
)
from service.metrics import Metrics
from service.readiness import Readiness
from service.routes import DIALECT_KEY, Endpoints, create_router, reply_response
from service.settings import Settings
from service.warmup import prepare

logger = logging.getLogger(__name__)

# Tokenising one large request must not hold up the next; more threads than that only take cores from the model.
NUM_TOKENISE_THREADS = 2

SUMMARY = "Relevance scoring in one prefill."

EngineFactory = Callable[[Artifact], Engine]


def _do_nothing(*_: object) -> None:
    pass


def create_app(
    settings: Settings,
    *,
    artifact: Artifact | None = None,
    engine_factory: EngineFactory | None = None,
    on_ready: Callable[[], None] = _do_nothing,
    on_fatal: Callable[[BaseException], None] = _do_nothing,
) -> FastAPI:
    """The application.

    Args:
        settings: what to serve and how.
        artifact: used instead of loading `settings.artifact`.
        engine_factory: builds the engine, in the engine thread; ONNX Runtime by default.
        on_ready: called on the event loop once the self-test has passed.
        on_fatal: called on the event loop when the engine cannot be started or has died.

    Raises:
        ArtifactError: the artifact cannot be loaded.
    """
    artifact = artifact or load_artifact(settings.artifact)
    build = engine_factory or (lambda built: OrtEngine(built, num_threads=settings.num_threads))
    readiness = Readiness()
    dispatch = Dispatch(discover())
    metrics = _new_metrics(artifact, dispatch)
    clock = time.monotonic
    executor = ThreadPoolExecutor(NUM_TOKENISE_THREADS, "tokenise")
    deployment = Deployment(Assembler(settings, metrics, executor, clock).assemble(artifact))
    _watch(metrics, deployment, readiness)

    def build_engine() -> Engine:
        engine = build(artifact)
        prepare(engine, artifact, settings.max_pack_tokens, readiness)
        return engine

    endpoints = Endpoints(
        deployment=deployment,
        readiness=readiness,
        metrics=metrics,
        dispatch=dispatch,
        max_body_bytes=settings.max_body_bytes,
        clock=clock,
        new_stamp=new_stamp,
    )
    lifespan = _lifespan(deployment, executor, readiness, build_engine, on_ready, on_fatal)
    app = FastAPI(title="Answer First", summary=SUMMARY, lifespan=lifespan, redirect_slashes=False)
    app.include_router(create_router(endpoints))
    _handle_errors(app, metrics, dispatch)
    return app


def _lifespan(
    deployment: Deployment,
    executor: Executor,
    readiness: Readiness,
    build_engine: Callable[[], Engine],
    on_ready: Callable[[], None],
    on_fatal: Callable[[BaseException], None],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Starts the engine thread with the server and ends it with the server."""

    def ready() -> None:
        readiness.enter("ready", "self-test passed")
        on_ready()

    def end(error: BaseException) -> None:
        readiness.enter("failed", f"{type(error).__name__}: {error}")
        logger.critical("engine_ended", exc_info=error)
        on_fatal(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        deployment.current.start(build_engine, ready, end)
        try:
            yield
        finally:
            readiness.enter("stopping", "the service is shutting down")
            await deployment.close()
            executor.shutdown()

    return lifespan


def _new_metrics(artifact: Artifact, dispatch: Dispatch) -> Metrics:
    manifest = artifact.manifest
    return Metrics(
        manifest.spec.scale.names,
        outcomes=["ok", "cancelled", *(error.code for error in concrete_errors())],
        artifact={"name": manifest.name, "hash": artifact.hash, "precision": manifest.precision},
        dialects=[dialect.name for dialect in dispatch.dialects],
    )


def _watch(metrics: Metrics, deployment: Deployment, readiness: Readiness) -> None:
    watch = metrics.watch
    watch("waiting_tokens", "Tokens of documents that wait for the engine.", lambda: deployment.num_waiting_tokens)
    watch("waiting_documents", "Documents that wait for the engine.", lambda: deployment.num_waiting_documents)
    watch("prefix_cache_bytes", "Memory held by the KV of past queries.", lambda: deployment.prefix_cache_bytes)
    watch("ready", "1 when /readyz answers 200.", lambda: float(readiness.is_ready))


def _handle_errors(app: FastAPI, metrics: Metrics, dispatch: Dispatch) -> None:
    """One mapping from errors to HTTP; the body is that of the request's dialect."""
    routing: dict[int, type[ServiceError]] = {
        NotFoundError.status: NotFoundError,
        MethodNotAllowedError.status: MethodNotAllowedError,
    }

    def respond(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
        metrics.count_request(error.code)
        dialect: Dialect = request.scope.get(DIALECT_KEY) or dispatch.dialect_of(request.url.path)
        response = reply_response(dialect.refuse(error, new_stamp()))
        response.headers.update(headers or {})
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        if isinstance(error, UnauthorizedError):
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    async def on_service_error(request: Request, error: Exception) -> Response:
        return respond(request, error if isinstance(error, ServiceError) else InternalError("an internal error"))

    async def on_http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException) or error.status_code not in routing:
            return respond(request, InternalError("an internal error"))
        place = f"{request.method} {request.url.path[:100]}"
        return respond(request, routing[error.status_code](f"there is no {place}"), error.headers)

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_service_error)
