"""The composition root: builds everything once, wires it, and maps errors to HTTP. Importing it does nothing.

    app = create_app(Settings(artifact=Path("artifacts/default")))

Lifespan: the engine thread starts with the server, so /livez and /readyz answer while the model loads, warms up
and tests itself. When that fails, or the engine thread dies later, readiness is gone for good and `on_fatal` is
told; what becomes of the process is the caller's business (`service.__main__` exits).
"""

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from engine.base import Engine
from engine.opening import open_engine
from relevance.artifact import Artifact, load_artifact
from service.access import Access, Key, read_keys
from service.admin import create_admin_router
from service.assembly import Assembler, new_stamp, num_threads_for, open_remote
from service.beside import Beside, open_shadow, open_tracing
from service.control import Control
from service.deadlines import Deadlines
from service.deployment import Deployment
from service.dialects import discover
from service.dispatch import Dispatch
from service.error_handlers import handle_errors
from service.errors import concrete_errors
from service.explain_api.routes import Surface, create_explain_router
from service.explain_api.surface import open_surface
from service.live_model import LiveModel
from service.metrics import Metrics
from service.middleware import AccessMiddleware, Refuse, RequestMiddleware, log_request
from service.operations_metrics import OperationsMetrics
from service.pages.api_docs import create_docs_router
from service.pages.playground import PUBLIC_PATHS, Limits, create_playground_router
from service.pair_cache import RemoteCache
from service.readiness import Readiness
from service.routes import Endpoints, create_router
from service.settings import Settings
from service.shadow import Shadow
from service.shadow_metrics import ShadowMetrics
from service.siblings import Peers
from service.timed_engine import TimedEngine
from service.trail import Trail
from service.warmup import prepare
from service.watchdog import Watchdog, WatchTimes

if TYPE_CHECKING:
    from service.tracing import Tracing

logger = logging.getLogger(__name__)

# Tokenising one large request must not hold up the next; more threads than that only take cores from the model.
NUM_TOKENISE_THREADS = 2

TITLE = "Answer First"
SUMMARY = "Relevance scoring in one prefill."
FASTAPI: dict[str, Any] = {"redirect_slashes": False, "docs_url": None, "redoc_url": None}

EngineFactory = Callable[[Artifact], Engine]


def _do_nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ProcessHooks:
    """What the app tells the process it runs in, and asks of it."""

    on_ready: Callable[[], None] = _do_nothing
    """On the event loop, once the self-test has passed, and again after each change of the artifact."""
    on_fatal: Callable[[BaseException], None] = _do_nothing
    """On the event loop, when the engine cannot be started or has died."""
    on_stall_limit: Callable[[float], None] = _do_nothing
    """In the watchdog's thread, when the event loop has been blocked for too many seconds."""
    num_lost_log_lines: Callable[[], float] = float
    """How many log lines could not be written."""


DEFAULT_HOOKS = ProcessHooks()


def create_app(
    settings: Settings,
    *,
    artifact: Artifact | None = None,
    engine_factory: EngineFactory | None = None,
    load: Callable[[Path], Artifact] = load_artifact,
    hooks: ProcessHooks = DEFAULT_HOOKS,
    siblings: Peers | None = None,
) -> FastAPI:
    """The application; `app.state.control` is a `Control` for whoever runs it.

    Args:
        settings: what to serve and how.
        artifact: used instead of loading `settings.artifact`; `load` reads and verifies one that is to take over.
        engine_factory: builds the engine, in the engine thread; ONNX Runtime by default.
        hooks: how the process takes part.
        siblings: the other workers of this service, if there are any.

    Raises:
        ArtifactError: the artifact cannot be loaded.
        InvalidSettingsError: the API keys cannot be read.
    """
    artifact = artifact or load_artifact(settings.artifact)
    keys = read_keys(settings.api_keys_file, settings.api_keys.get_secret_value())
    readiness = Readiness()
    dispatch = Dispatch(discover())
    metrics = _new_metrics(artifact, dispatch)
    operations, clock = OperationsMetrics(metrics.registry, [key.name for key in keys]), time.monotonic
    executor = ThreadPoolExecutor(NUM_TOKENISE_THREADS, "tokenise")
    remote = open_remote(settings, metrics.queue)
    assembler = Assembler(settings, metrics, executor, clock, remote)
    assemble = assembler.assemble
    deployment = Deployment(assemble(artifact), load, assemble, _builder(engine_factory, settings, readiness, clock))
    access = _new_access(settings, keys, clock)
    control = Control(settings, readiness, deployment, access, operations)
    surface = open_surface(settings, metrics.registry, clock, siblings)
    surface.metrics.watch_figures(assembler.explaining)
    control.join(siblings, metrics.render, surface.subjects.tell_pair)
    _watch(metrics, operations, deployment, readiness, hooks)
    endpoints = _new_endpoints(settings, deployment, metrics, dispatch, control, surface)
    shadow = open_shadow(settings, artifact, load, engine_factory, ShadowMetrics(metrics.registry))
    tracing = open_tracing(settings, clock)
    watchdog = _new_watchdog(settings, operations, hooks)
    beside = [one for one in (operations.gc_pauses, watchdog, shadow, tracing) if one is not None]
    lifespan = _lifespan(control, hooks, remote, executor, beside)
    app = FastAPI(title=TITLE, summary=SUMMARY, lifespan=lifespan, **FASTAPI)
    app.state.control = control
    app.include_router(create_router(endpoints))
    app.include_router(create_explain_router(endpoints, surface))
    app.include_router(create_admin_router(control.swap))
    _include_pages(app, settings, deployment, shadow, needs_key=bool(keys))
    refuse = handle_errors(app, metrics, dispatch)
    app.add_middleware(AccessMiddleware, access=access, refuse=refuse, count=operations.count_key)
    _add_outer_layers(app, settings, refuse, shadow, tracing)
    return app


def _new_access(settings: Settings, keys: Sequence[Key], clock: Callable[[], float]) -> Access:
    return Access(
        keys,
        clock,
        public_metrics=settings.public_metrics,
        public_pages=PUBLIC_PATHS if settings.playground else (),
        num_workers=settings.workers or 1,
    )


def _include_pages(
    app: FastAPI, settings: Settings, deployment: Deployment, shadow: Shadow | None, *, needs_key: bool
) -> None:
    app.include_router(create_docs_router())
    if settings.playground:
        limits = Limits(settings.max_documents, settings.max_body_bytes, settings.body_timeout_seconds)
        app.include_router(create_playground_router(deployment, shadow, limits, needs_key=needs_key))


def _new_watchdog(settings: Settings, operations: OperationsMetrics, hooks: ProcessHooks) -> Watchdog:
    times = WatchTimes(limit_s=settings.max_loop_stall_seconds or None)
    return Watchdog(times, operations.observe_lag, operations.count_stall, hooks.on_stall_limit)


def _new_endpoints(
    settings: Settings,
    deployment: Deployment,
    metrics: Metrics,
    dispatch: Dispatch,
    control: Control,
    surface: Surface,
) -> Endpoints:
    return Endpoints(
        deployment=deployment,
        readiness=control.readiness,
        metrics=metrics,
        render_metrics=control.render_metrics,
        dispatch=dispatch,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_seconds,
        deadlines=Deadlines(settings.default_timeout_ms, settings.max_timeout_ms),
        clock=time.monotonic,
        new_stamp=new_stamp,
        give_handles=surface.subjects.give_handles,
    )


def _add_outer_layers(
    app: FastAPI, settings: Settings, refuse: Refuse, shadow: Shadow | None, tracing: "Tracing | None"
) -> None:
    control: Control = app.state.control
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(
        RequestMiddleware,
        clock=time.monotonic,
        refuse=refuse,
        new_trail=Trail if shadow is None else lambda: Trail(on_scored=shadow.offer),
        observers=[*([log_request] if settings.access_log else []), *([tracing.observe] if tracing else [])],
        is_leaving=lambda: control.is_leaving,
    )


def _builder(
    factory: EngineFactory | None, settings: Settings, readiness: Readiness, clock: Callable[[], float]
) -> Callable[[LiveModel], Engine]:
    num_cores = len(os.sched_getaffinity(0))

    def build_ort(artifact: Artifact) -> Engine:
        asked, workers = settings.num_threads, settings.workers or 1
        num_threads = num_threads_for(artifact, asked, workers, num_cores)
        return open_engine(artifact, settings.device, num_threads=num_threads, cache=settings.tensorrt_cache)

    build = factory or build_ort

    def build_engine(model: LiveModel) -> Engine:
        engine = build(model.artifact)
        timed = TimedEngine(engine, clock)
        prepare(timed, model.artifact, settings.max_pack_tokens, readiness)
        model.scheduler.cost.start(timed.measurements)
        return engine

    return build_engine


def _lifespan(
    control: Control,
    hooks: ProcessHooks,
    remote: RemoteCache | None,
    executor: Executor,
    beside: Sequence[Beside],
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Starts what runs beside the requests with the server and ends it with the server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _build_routes(app)
        control.start(hooks.on_ready, hooks.on_fatal)
        for one in beside:
            one.start()
        try:
            await control.settle()
            yield
        finally:
            await control.stop()
            if remote is not None:
                await remote.close()
            for one in beside:
                one.stop()
            executor.shutdown()

    return lifespan


def _build_routes(app: FastAPI) -> None:
    """Match once: FastAPI builds its routes at the first request, which takes 0.1 s that no caller should pay for."""
    scope = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.router.routes:
        route.matches(scope)


def _new_metrics(artifact: Artifact, dispatch: Dispatch) -> Metrics:
    return Metrics(
        artifact.manifest.spec.scale.names,
        outcomes=["ok", "partial", "cancelled", *(error.code for error in concrete_errors())],
        dialects=[dialect.name for dialect in dispatch.dialects],
    )


def _watch(
    metrics: Metrics, operations: OperationsMetrics, deployment: Deployment, readiness: Readiness, hooks: ProcessHooks
) -> None:
    watch = metrics.watch
    watch("waiting_tokens", "Tokens of documents that wait for the engine.", lambda: deployment.num_waiting_tokens)
    watch("waiting_documents", "Documents that wait for the engine.", lambda: deployment.num_waiting_documents)
    watch("score_cache_bytes", "Memory held by scores computed before.", lambda: deployment.score_cache_bytes)
    cost = "of an engine call, by the cost model."
    watch("cost_seconds_per_token", f"Seconds of a token {cost}", lambda: deployment.cost.seconds_per_token)
    watch("cost_seconds_per_pack", f"Seconds beside the tokens {cost}", lambda: deployment.cost.seconds_per_call)
    watch("prefix_cache_bytes", "Memory held by the KV of past queries.", lambda: deployment.prefix_cache_bytes)
    watch("explain_kv_bytes", "Memory held by KV for explanations.", lambda: deployment.explain_kv_bytes)
    watch("explain_streams", "Explanations that an engine has under way.", lambda: deployment.num_explain_streams)
    watch("explain_holds", "Holds of explanations on pairs' KV.", lambda: deployment.num_explain_holds)
    watch("ready", "1 when /readyz answers 200.", lambda: float(readiness.is_ready))
    operations.watch("draining_models", "Replaced models that requests still hold.", lambda: deployment.num_draining)
    operations.watch("lost_log_lines", "Log lines that could not be written.", hooks.num_lost_log_lines)
