"""Deadlines and reservations in the bridge between event loop and engine thread, and what it learns of the engine."""

import asyncio
import math

import numpy as np
import pytest

from engine.base import DocumentWork
from engine.prefix_cache import PrefixCache
from service.batcher import Batcher
from service.cost import CostModel
from service.errors import DeadlineExceededError, DeadlineUnmeetableError, EngineFailedError, OverloadedError
from service.metrics import Metrics
from service.scheduler import PackLimits, Scheduler
from service.work import Prompt, ScoreWork, Terms
from tests.fakes import FakeClock, FakeEngine
from tests.service.test_batcher import Running, running, work

SOON = 0.03


def due(clock: FakeClock, one: ScoreWork, seconds: float = SOON, partial: bool = False) -> ScoreWork:
    return ScoreWork(one.prompts, Terms(clock.now + seconds, is_partial=partial))


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of which nobody expects that they take long."""
    monkeypatch.setattr(CostModel, "seconds", lambda *_: 1e-9)


async def test_a_deadline_ends_the_wait_and_the_work(cheap: None) -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            with pytest.raises(DeadlineExceededError, match="with 0 of 2 distinct documents scored"):
                await r.batcher.submit(due(r.clock, work(1, 2, 3)))
        await first
        assert [ids for pack in r.engine.packs for ids in pack] == [(1,) * 4]
        assert b'relevance_expired_requests_total{step="waiting"} 1.0' in r.metrics.render()


async def test_what_the_engine_is_computing_at_the_deadline_harms_nobody(cheap: None) -> None:
    async with running() as r:
        await r.batcher.submit(work(1, 0))
        with r.engine.blocked():
            with pytest.raises(DeadlineExceededError):
                await r.batcher.submit(due(r.clock, work(1, 2, 3)))
            after = asyncio.create_task(r.batcher.submit(work(1, 3, 4)))
            await asyncio.sleep(0)
        await after
        assert b'relevance_expired_requests_total{step="running"} 1.0' in r.metrics.render()


async def test_a_partial_answer_is_what_is_there_at_the_deadline(cheap: None) -> None:
    async with running() as r:
        held = due(r.clock, work(1, 2, 3, 4, 5, 6), partial=True)
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 2))
            await r.batcher.submit(held)
        await first
        assert held.num_scored in (0, 1)
        assert not held.is_scored
        assert not math.isnan(held.timings.finished_at)


async def test_what_is_hopeless_is_told_before_its_deadline() -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            hopeless = asyncio.create_task(r.batcher.submit(due(r.clock, work(1, 2), seconds=100.0)))
            await asyncio.sleep(0)
            r.clock.now += 99.9  # a pack takes a second, says the cost model
        await first
        with pytest.raises(DeadlineExceededError):
            await asyncio.wait_for(hopeless, timeout=10)
        assert (2,) * 4 not in [ids for pack in r.engine.packs for ids in pack]


async def test_what_is_being_tokenised_holds_its_place_until_it_is_done() -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            with r.batcher.reserved(390, Terms()):
                with pytest.raises(OverloadedError), r.batcher.reserved(20, Terms()):
                    raise AssertionError("two are too many")
                with pytest.raises(OverloadedError):
                    await r.batcher.submit(work(1, 7, 8, 9))
            with r.batcher.reserved(20, Terms()):
                pass
            with pytest.raises(DeadlineUnmeetableError), r.batcher.reserved(20, Terms(r.clock.now + 0.5)):
                raise AssertionError("a call takes a second")
        await first
        assert r.scheduler.num_reserved_tokens == 0


async def test_it_learns_what_calls_take_but_not_from_those_that_failed() -> None:
    clock = FakeClock()

    class SlowEngine(FakeEngine):
        def prefill_prefixes(self, prefixes):  # type: ignore[no-untyped-def]
            clock.now += 1e-3 * sum(map(len, prefixes)) + 2e-3
            return super().prefill_prefixes(prefixes)

        def score_documents(self, documents: list[DocumentWork]) -> np.ndarray:  # type: ignore[override]
            clock.now += 1e-3 * sum(len(one.ids) for one in documents) + 2e-3
            if documents[0].ids == (666,):
                clock.now += 60.0
                raise RuntimeError("broken")
            return super().score_documents(documents)

    cost = CostModel(5e-3, 1e-3)
    engine, metrics = SlowEngine(), Metrics(["no", "yes"], ["ok"])
    batcher = Batcher(Scheduler(PackLimits(64, 64, 4000), cost, clock), PrefixCache(0), cost, metrics, clock)
    ready = asyncio.Event()
    batcher.start(lambda: engine, ready.set, lambda _: None)
    await ready.wait()
    for number in range(200):
        await batcher.submit(ScoreWork([Prompt((1,), (number,) * (1 + number % 60))]))
        if number % 2 == 1:
            broken, next_one = ScoreWork([Prompt((1,), (666,))]), ScoreWork([Prompt((1,), (number,) * 64)])
            results = await asyncio.gather(*map(batcher.submit, (broken, next_one)), return_exceptions=True)
            assert isinstance(results[0], EngineFailedError)
            assert results[1] is None
    # 10 %: the last twenty sizes, and a guess to start from that was far off.
    assert cost.seconds(40) == pytest.approx(42e-3, rel=0.1)
    assert cost.seconds(1) == pytest.approx(3e-3, rel=0.5)
    await batcher.close()


async def test_nothing_is_left_of_an_expired_request(cheap: None) -> None:
    r = Running()
    r.start()
    await r.ready.wait()
    with r.engine.blocked():
        first = await r.blocked_submit(work(1, 1))
        tasks = [asyncio.create_task(r.batcher.submit(due(r.clock, work(2, n, n + 1)))) for n in range(5)]
        done, _ = await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), DeadlineExceededError) for task in done)
    await first
    assert (r.scheduler.num_waiting_tokens, r.scheduler.num_waiting_documents) == (0, 0)
    await r.batcher.close()
