"""One model put together as the service does it, without HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from engine.base import Engine
from relevance.artifact import Artifact
from relevance.pair import Pair
from service.assembly import Assembler
from service.errors import ServiceError
from service.explaining.events import Delta, Done, Event, ExplanationRequest, Grade, Step
from service.live_model import LiveModel
from service.metrics import Metrics
from service.settings import Settings
from service.work import Terms
from tests.fakes import FakeEngine, fake_artifact


@dataclass
class Explained:
    """What came of one explanation."""

    events: list[Event]
    error: ServiceError | None = None

    @property
    def values(self) -> dict[str, object]:
        return {event.name: event.value for event in self.events if isinstance(event, Step)}

    @property
    def pieces(self) -> list[Delta]:
        return [event for event in self.events if isinstance(event, Delta)]

    @property
    def done(self) -> Done:
        assert self.error is None, self.error
        assert isinstance(self.events[-1], Done)
        return self.events[-1]


@dataclass
class Model:
    """A running model."""

    live: LiveModel
    artifact: Artifact

    async def grade(self, pair: Pair, *, keeps_kv: bool = False) -> int:
        scored = await self.live.scorer.score([pair], terms=Terms(keeps_kv=keeps_kv))
        return int(scored.pairs.grades[0])

    async def explain(self, request: ExplanationRequest) -> Explained:
        events: list[Event] = []
        try:
            async for event in self.live.explainer.explain(request):
                events.append(event)
        except ServiceError as error:
            return Explained(events, error)
        return Explained(events)

    async def begun(self, request: ExplanationRequest) -> asyncio.Task[Explained]:
        """A task whose explanation has been admitted."""
        before = self.live.explainer.figures.admitted
        task = asyncio.create_task(self.explain(request))
        while self.live.explainer.figures.admitted == before and not task.done():
            await asyncio.sleep(0)
        return task

    def assert_nothing_held(self) -> None:
        explainer = self.live.explainer
        assert (explainer.num_streams, explainer.answer_bytes, explainer.num_held_pairs) == (0, 0, 0)


@asynccontextmanager
async def running(
    artifact: Artifact | None = None,
    build: Callable[[], Engine] | None = None,
    clock: Callable[[], float] = time.monotonic,
    **settings: float,
) -> AsyncIterator[Model]:
    artifact = artifact or fake_artifact()
    executor = ThreadPoolExecutor(2)
    given = Settings(score_cache_mib=0, max_pack_tokens=64, **settings)
    live = Assembler(given, Metrics(artifact.manifest.spec.scale.names, ["ok"]), executor, clock).assemble(artifact)
    await live.started(build or FakeEngine, lambda _: None)
    yield Model(live, artifact)
    await live.close()
    executor.shutdown()


def assert_in_order(found: Explained) -> None:
    """Grade, then each step's pieces and the step, then Done."""
    assert isinstance(found.events[0], Grade)
    said = ""
    for event in found.events[1:-1]:
        if isinstance(event, Delta):
            said += event.text
        else:
            assert isinstance(event, Step)
            said = ""
    assert isinstance(found.events[-1], Done)
