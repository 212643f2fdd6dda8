"""One artifact being served: its engine thread, scheduler, caches, scorer and explainer, alive and gone together.

    created -> started (the engine thread loads, warms up, self-tests) -> leased by requests -> closed

A request leases the model once, at its start, and does everything with it: what it is told of the model, how it
tokenises, which engine computes. So an answer names exactly one artifact, and every document of it was scored by
that one, whatever is swapped meanwhile. All of it happens on the event loop; the engine has its own thread.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.base import Engine
from engine.prefix_cache import PrefixCache
from relevance.artifact import Artifact
from service.batcher import Batcher
from service.dialect import ServedModel
from service.explaining.explainer import Explainer
from service.scheduler import Scheduler
from service.score import Scorer
from service.score_cache import ScoreCache


@dataclass(frozen=True, slots=True)
class Caches:
    """What one model has computed before."""

    prefixes: PrefixCache
    scores: ScoreCache


@dataclass(frozen=True, slots=True)
class Scoring:
    """What one model scores with."""

    scorer: Scorer
    batcher: Batcher
    scheduler: Scheduler
    caches: Caches


class LiveModel:
    """What serves one artifact."""

    def __init__(self, artifact: Artifact, served: ServedModel, scoring: Scoring, explainer: Explainer) -> None:
        self.artifact = artifact
        self.served = served
        self.scorer, self.scheduler, self.caches = scoring.scorer, scoring.scheduler, scoring.caches
        self.explainer = explainer
        self._batcher = scoring.batcher
        self.is_started = False
        """Whether its engine has been loaded, warmed up and has passed its self-test."""
        self._num_leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def lease(self) -> Iterator["LiveModel"]:
        """Keep it alive for one request."""
        self._num_leases += 1
        self._unused.clear()
        try:
            yield self
        finally:
            self._num_leases -= 1
            if self._num_leases == 0:
                self._unused.set()

    def start(
        self,
        build_engine: Callable[[], Engine],
        on_ready: Callable[[], None],
        on_end: Callable[[BaseException], None],
    ) -> None:
        """Start the engine thread, as `Batcher.start` does."""

        def ready() -> None:
            self.is_started = True
            on_ready()

        self._batcher.start(build_engine, ready, on_end)

    async def started(self, build_engine: Callable[[], Engine], on_death: Callable[[BaseException], None]) -> None:
        """Start the engine thread and wait until the engine is there; raises what `build_engine` raises.

        `on_death` is told of an engine that dies later.
        """
        start: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ready() -> None:
            if not start.done():
                start.set_result(None)

        def end(error: BaseException) -> None:
            if self.is_started:
                on_death(error)
            elif not start.done():
                # A future takes no StopIteration, and a caller expects no SystemExit of a thread's.
                start.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

        self.start(build_engine, ready, end)
        await start

    async def drain(self) -> None:
        """Return once no request holds a lease."""
        await self._unused.wait()

    async def close(self) -> None:
        """End the engine thread and free the model; what still waits fails as not ready."""
        await self._batcher.close()
