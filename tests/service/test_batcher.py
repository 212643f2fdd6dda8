"""The bridge between event loop and engine thread: every admitted work item is resolved exactly once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from engine.base import DocumentWork
from engine.prefix_cache import PrefixCache
from service.batcher import Batcher
from service.cost import CostModel
from service.errors import EngineDeadError, EngineFailedError, NotReadyError, OverloadedError
from service.metrics import Metrics
from service.scheduler import PackLimits, Scheduler
from service.work import Prompt, ScoreWork
from tests.fakes import FakeClock, FakeEngine, ThreadDeath, fake_logits


def work(query: int, *documents: int) -> ScoreWork:
    return ScoreWork([Prompt((query,), (document,) * 4) for document in documents])


def expected(one: ScoreWork) -> np.ndarray:
    return np.stack([fake_logits(prompt.prefix_ids, prompt.document_ids) for prompt in one.prompts])


class Running:
    """A batcher over a FakeEngine, and what it told its owner."""

    def __init__(self, cache_bytes: int = 10_000) -> None:
        self.engine = FakeEngine()
        self.metrics = Metrics(["no", "yes"], ["ok"], {"name": "fake"})
        cost = CostModel(1e-6, 1.0)  # calls are dear, so that packs are as large as they may be
        self.clock = FakeClock()
        self.scheduler = Scheduler(PackLimits(16, 64, 400), cost, self.clock)
        self.batcher = Batcher(self.scheduler, PrefixCache(cache_bytes), cost, self.metrics, self.clock)
        self.ready = asyncio.Event()
        self.ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def start(self, build: Callable[[], FakeEngine] | None = None) -> None:
        self.batcher.start(build or (lambda: self.engine), self.ready.set, self.ended.set_result)

    async def blocked_submit(self, one: ScoreWork) -> asyncio.Task[None]:
        """A task whose work has reached the engine, which must be blocked."""
        task = asyncio.create_task(self.batcher.submit(one))
        await asyncio.to_thread(self.engine.wait_for_call)
        return task


@asynccontextmanager
async def running(cache_bytes: int = 10_000) -> AsyncIterator[Running]:
    one = Running(cache_bytes)
    one.start()
    await one.ready.wait()
    yield one
    await one.batcher.close()


async def test_scores_come_back_and_only_the_engine_thread_runs_the_engine() -> None:
    async with running() as r:
        one = work(1, 2, 3, 4, 5, 6)
        await r.batcher.submit(one)
        np.testing.assert_array_equal(one.label_logits, expected(one))
        assert r.engine.threads == {"engine"}
        assert [len(pack) for pack in r.engine.packs] == [4, 1]
    assert r.engine.is_closed


async def test_requests_that_arrive_while_the_engine_is_busy_leave_together() -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            others = [work(1, 2), work(2, 3), work(1, 4)]
            rest = asyncio.gather(*(r.batcher.submit(one) for one in others))
            await asyncio.sleep(0)
        await asyncio.gather(first, rest)
        assert r.engine.prefills == [[(1,)], [(2,)]]
        assert [len(pack) for pack in r.engine.packs] in ([1, 3], [2, 2])
        assert [one.num_cached_tokens for one in others] == [1, 0, 1], "on its way for another request, or not"
        for one in others:
            np.testing.assert_array_equal(one.label_logits, expected(one))


async def test_a_prefix_is_computed_once_and_kept() -> None:
    async with running() as r:
        first, second = work(1, 2), work(1, 3)
        await r.batcher.submit(first)
        await r.batcher.submit(second)
        assert r.engine.prefills == [[(1,)]]
        assert (first.num_cached_tokens, second.num_cached_tokens) == (0, 1)


async def test_a_prefix_that_the_cache_cannot_hold_is_computed_again() -> None:
    async with running(cache_bytes=0) as r:
        await r.batcher.submit(work(1, 2))
        await r.batcher.submit(work(1, 3))
        assert r.engine.prefills == [[(1,)], [(1,)]]


async def test_many_at_once_all_get_their_own_answer() -> None:
    async with running() as r:
        works = [work(n % 7, *range(n, n + n % 5 + 1)) for n in range(30)]
        await asyncio.gather(*(r.batcher.submit(one) for one in works))
        for one in works:
            np.testing.assert_array_equal(one.label_logits, expected(one))


@pytest.mark.parametrize("failing", [(9,), (9,) * 4], ids=["prefix", "document"])
async def test_a_failed_batch_fails_its_members_only(failing: tuple[int, ...]) -> None:
    async with running() as r:
        r.engine.fail_on = lambda ids: RuntimeError("out of memory") if tuple(ids) == failing else None
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            member = asyncio.create_task(r.batcher.submit(work(9, 9, 8, 7, 6, 5, 4)))
            await asyncio.sleep(0)
            beyond = [work(3, 1, 2, 3, 4), work(4, 5)]
            others = asyncio.gather(*(r.batcher.submit(one) for one in beyond))
            await asyncio.sleep(0)
        with pytest.raises(EngineFailedError, match="the model failed on this request"):
            await member
        await asyncio.gather(first, others)
        assert r.scheduler.num_waiting_documents == 0
        assert b"relevance_failed_batches_total 1.0" in r.metrics.render()
        r.engine.fail_on = lambda _: None
        again = work(9, 9)
        await r.batcher.submit(again)
        np.testing.assert_array_equal(again.label_logits, expected(again))


async def test_padding_would_show() -> None:
    async with running() as r:
        await r.batcher.submit(work(1, 1, 2))
        assert b"relevance_padding_tokens_total 0.0" in r.metrics.render()
        r.engine.padding = 3
        await r.batcher.submit(work(9, 5))  # a prefix run and a pack
        assert b"relevance_padding_tokens_total 6.0" in r.metrics.render()


async def test_logits_that_are_no_numbers_are_a_failure_not_an_answer() -> None:
    class BrokenEngine(FakeEngine):
        def score_documents(self, documents: list[DocumentWork]) -> np.ndarray:  # type: ignore[override]
            return np.full((len(documents), 4), np.nan, dtype=np.float32)

    r = Running()
    r.start(BrokenEngine)
    await r.ready.wait()
    with pytest.raises(EngineFailedError):
        await r.batcher.submit(work(1, 1))
    await r.batcher.close()


async def test_a_cancelled_request_is_not_computed() -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            gone = asyncio.create_task(r.batcher.submit(work(1, 2, 3)))
            await asyncio.sleep(0)
            assert r.scheduler.num_waiting_documents >= 2
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
        await first
        assert [ids for pack in r.engine.packs for ids in pack] == [(1,) * 4]
        assert r.scheduler.num_waiting_documents == 0


async def test_cancelling_what_the_engine_is_computing_harms_nobody() -> None:
    async with running() as r:
        await r.batcher.submit(work(1, 0))
        with r.engine.blocked():
            gone = await r.blocked_submit(work(1, 1, 2, 3, 4, 5))
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
        after = work(1, 6)
        await r.batcher.submit(after)
        np.testing.assert_array_equal(after.label_logits, expected(after))
        assert (5,) * 4 not in [ids for pack in r.engine.packs for ids in pack]


async def test_a_request_cancelled_between_the_engines_answer_and_its_delivery_does_not_hold_up_its_neighbour() -> None:
    async with running() as r:
        await r.batcher.submit(work(1, 0))
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            gone, neighbour, later = (asyncio.create_task(r.batcher.submit(work(1, n, n + 1))) for n in (2, 4, 6))
            await asyncio.sleep(0)
        # The loop stands still until the engine has answered the pack of the two and begun the next.
        r.engine.wait_for_call()
        r.engine.wait_for_call()
        gone.cancel()
        await asyncio.wait_for(asyncio.gather(first, neighbour, later), timeout=10)
        assert gone.cancelled()


async def test_too_much_is_refused_and_what_waits_is_unharmed() -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            second = asyncio.create_task(r.batcher.submit(work(1, *range(99))))
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError):
                await r.batcher.submit(work(1, 200, 201, 202))
        await asyncio.gather(first, second)
        assert b'relevance_prefix_lookups_total{source="shared"} 1.0' in r.metrics.render(), "the admitted one"


async def test_when_the_thread_dies_everybody_is_told_and_nobody_is_taken_in() -> None:
    async with running() as r:
        r.engine.fail_on = lambda ids: ThreadDeath("killed") if ids[0] == 9 else None
        with r.engine.blocked():
            first = await r.blocked_submit(work(9, 1))
            waiting = asyncio.create_task(r.batcher.submit(work(1, 1)))
            await asyncio.sleep(0)
        for task in (first, waiting):
            with pytest.raises(EngineDeadError):
                await task
        assert isinstance(await r.ended, ThreadDeath)
        with pytest.raises(EngineDeadError):
            await r.batcher.submit(work(1, 1))
        assert r.engine.is_closed


async def test_nothing_is_taken_in_before_the_engine_stands() -> None:
    r = Running()
    with pytest.raises(NotReadyError, match="starting"):
        await r.batcher.submit(work(1, 1))
    standing = threading.Event()

    def build() -> FakeEngine:
        assert standing.wait(timeout=10)
        return r.engine

    r.start(build)
    with pytest.raises(NotReadyError):
        await r.batcher.submit(work(1, 1))
    standing.set()
    await r.ready.wait()
    await r.batcher.submit(work(1, 1))
    await r.batcher.close()


async def test_an_engine_that_cannot_be_built_ends_it() -> None:
    r = Running()

    def build() -> FakeEngine:
        raise ValueError("no such graph")

    r.start(build)
    assert str(await r.ended) == "no such graph"
    with pytest.raises(EngineDeadError):
        await r.batcher.submit(work(1, 1))
    await r.batcher.close()


async def test_closing_fails_what_still_waits() -> None:
    async with running() as r:
        with r.engine.blocked():
            first = await r.blocked_submit(work(1, 1))
            closing = asyncio.create_task(r.batcher.close())
            await asyncio.sleep(0)
        with pytest.raises(NotReadyError, match="shutting down"):
            await first
        await closing
        with pytest.raises(NotReadyError, match="shutting down"):
            await r.batcher.submit(work(1, 1))
