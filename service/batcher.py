"""The bridge between asyncio and the one engine thread.

    submit (event loop) -> Scheduler <- take (engine thread) -> engine -> resolve (event loop)

The engine thread pulls: as soon as it is free it asks the scheduler for the next batch, and sleeps on a
condition, without a timeout, only while nothing waits. So a lone request leaves at once, and requests that
arrive while the engine is busy leave together. The thread also builds the engine: no other thread ever runs it.

Every admitted ScoreWork is resolved exactly once, by whoever takes its future out of `_futures`:

    scored      the engine thread, after its last document
    failed      the engine thread, when a batch it is part of raises; other requests are unharmed
    expired     a timer at its deadline, or before that the engine thread, when it cannot be in time any more; one that
                takes a partial answer is then resolved with what has been scored
    cancelled   `submit` itself, when its caller is cancelled; what still waits is never computed
    ended       the engine thread on its way out, whatever ended it; later submits are refused with the same error

Between packs it does side work in steps, when that says so (`service.side_work`): it knows no more of it.

One lock guards scheduler, prefix cache, futures and side work; nobody holds it while computing.
"""

import asyncio
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from engine.base import Engine
from engine.prefix_cache import PrefixCache
from service.cost import CostModel
from service.errors import DeadlineExceededError, EngineDeadError, EngineFailedError, NotReadyError, ServiceError
from service.metrics import Metrics
from service.pack_calls import PackCalls
from service.scheduler import Scheduler
from service.side_work import EngineStep, NoSideWork, SideWork, run_step
from service.waiting import Load
from service.work import Batch, DocumentBatch, PrefixBatch, ScoreWork, Terms

logger = logging.getLogger(__name__)

OnEnd = Callable[[BaseException], None]


class Batcher:
    """Runs admitted work on one engine."""

    def __init__(
        self,
        scheduler: Scheduler,
        prefix_cache: PrefixCache,
        cost: CostModel,
        metrics: Metrics,
        clock: Callable[[], float],
        side: SideWork | None = None,
    ) -> None:
        """`cost` is the scheduler's: it learns here from every call."""
        self._side = NoSideWork() if side is None else side  # an empty one is false
        self._calls = PackCalls(metrics, self._side)
        self._scheduler = scheduler
        self._prefix_cache = prefix_cache
        self._cost = cost
        self._metrics = metrics
        self._clock = clock
        self._changed = threading.Condition()
        self._futures: dict[ScoreWork, asyncio.Future[None]] = {}
        self._refusal: ServiceError | None = NotReadyError("the engine is starting")
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._call_began = math.nan
        """When the running call did, in the engine thread; NaN where it has just been idle."""

    def start(self, build_engine: Callable[[], Engine], on_ready: Callable[[], None], on_end: OnEnd) -> None:
        """Start the engine thread on the running loop.

        `build_engine` runs in that thread; on the loop runs `on_ready` once it has returned, and `on_end` if it
        fails or the thread dies later.
        """
        self._loop = asyncio.get_running_loop()
        arguments = (build_engine, on_ready, on_end)
        self._thread = threading.Thread(target=self._run, args=arguments, name="engine", daemon=True)
        self._thread.start()

    @contextmanager
    def reserved(self, num_tokens: int, terms: Terms) -> Iterator[None]:
        """Hold room for a request whose tokens are only estimated, while it is being tokenised.

        Raises:
            OverloadedError, DeadlineUnmeetableError: there is none, or not in time.
            EngineDeadError, NotReadyError: the engine is gone, or not there yet.
        """
        with self._changed:
            self.check_running()
            self._scheduler.check(Load(num_tokens), terms)
            self._scheduler.num_reserved_tokens += num_tokens
        try:
            yield
        finally:
            with self._changed:
                self._scheduler.num_reserved_tokens -= num_tokens

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The lock, for whoever changes side work; the engine thread looks again afterwards."""
        with self._changed:
            yield
            self._changed.notify()

    def check_running(self) -> None:
        """Whether there is an engine; the caller holds the lock.

        Raises:
            EngineDeadError, NotReadyError: it is gone, or not there yet.
        """
        if self._refusal is not None:
            raise self._refusal.copy()

    async def submit(self, work: ScoreWork) -> None:
        """Admit `work` and wait until it is scored or, where it takes a partial answer, until its deadline.

        Raises:
            OverloadedError, DeadlineUnmeetableError: refused; nothing was admitted.
            DeadlineExceededError: its deadline passed.
            EngineFailedError: a batch it was part of failed.
            EngineDeadError, NotReadyError: the engine is gone, or not there yet.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            self.check_running()
            self._admit(work)
            self._futures[work] = future
            self._changed.notify()
        timer = None
        if work.terms.deadline < math.inf:
            timer = loop.call_later(max(0.0, work.terms.deadline - self._clock()), self._expire, work)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            if future.cancelled():
                with self._changed:
                    self._futures.pop(work, None)
                    self._scheduler.remove(work)
                self._metrics.queue.count_cancelled(work.has_started)

    def _expire(self, work: ScoreWork) -> None:
        """The deadline of `work` has come."""
        with self._changed:
            self._scheduler.remove(work)
            self._resolve_expired([work])

    def _resolve_expired(self, works: Iterable[ScoreWork]) -> None:
        """Answer with what there is, or not at all. The caller holds the lock."""
        for work in works:
            if work not in self._futures:
                continue
            if work.terms.is_partial:
                work.timings.finished_at = self._clock()
                self._resolve([work], None)
            else:
                self._metrics.queue.count_expired(work.has_started)
                message = f"the deadline passed with {work.num_scored} of {len(work.prompts)} distinct documents scored"
                self._resolve([work], DeadlineExceededError(message))

    async def close(self) -> None:
        """End the engine thread after the batch it is running; what still waits fails as not ready."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _admit(self, work: ScoreWork) -> None:
        """Admit `work` with the KV of those of its prefixes that are kept. The caller holds the lock."""
        prefixes = dict.fromkeys(prompt.prefix_ids for prompt in work.prompts)
        shared = [ids for ids in prefixes if self._scheduler.is_awaited(ids)]
        kept = {ids: self._prefix_cache.get(ids) for ids in prefixes if not self._scheduler.is_awaited(ids)}
        hits = {ids: kv for ids, kv in kept.items() if kv is not None}
        self._scheduler.admit(work, hits)
        self._metrics.queue.admitted.inc()
        work.num_cached_tokens = sum(map(len, shared)) + sum(map(len, hits))
        self._metrics.count_prefixes("shared", len(shared))
        self._metrics.count_prefixes("hit", len(hits))
        self._metrics.count_prefixes("miss", len(kept) - len(hits))

    def _run(self, build_engine: Callable[[], Engine], on_ready: Callable[[], None], on_end: OnEnd) -> None:
        """The life of the engine thread."""
        engine: Engine | None = None
        try:
            engine = build_engine()
            with self._changed:
                self._refusal = None
            self._on_loop(on_ready)
            while (task := self._take()) is not None:
                if isinstance(task, PrefixBatch | DocumentBatch):
                    self._compute(engine, task)
                else:
                    run_step(task, engine, self._clock, self._changed, self._metrics.failed_batches.inc)
            self._refuse_all(NotReadyError("the service is shutting down"))
        except BaseException as error:  # whatever it is, nobody may be left waiting
            self._refuse_all(EngineDeadError("the engine has ended; the service must be restarted"))
            self._on_loop(on_end, error)
        finally:
            if engine is not None:
                engine.close()

    def _take(self) -> Batch | EngineStep | None:
        """What is next, waiting for something if need be; None once closing."""
        with self._changed:
            while not self._is_closing:
                step = self._side.next_step(scores_wait=self._scheduler.num_waiting_documents > 0)
                batch = None if step is not None else self._scheduler.next_batch()
                self._resolve_expired(self._scheduler.pop_expired())
                if batch is not None:
                    if math.isnan(self._call_began):
                        self._call_began = self._clock()
                    return batch
                step = self._side.next_step(scores_wait=False) if step is None else step
                self._call_began = math.nan
                if step is not None:
                    return step
                self._changed.wait()
        return None

    def _compute(self, engine: Engine, batch: Batch) -> None:
        try:
            if isinstance(batch, PrefixBatch):
                self._prefill(engine, batch)
            else:
                self._score(engine, batch)
        except Exception as error:
            logger.error("engine_call_failed tokens=%d", batch.num_tokens, exc_info=error)
            self._metrics.failed_batches.inc()
            with self._changed:
                failure = EngineFailedError("the model failed on this request")
                self._resolve(self._scheduler.failed(batch), failure)
            self._call_began = math.nan  # how long a failed call took says nothing of the next

    def _learn(self, num_tokens: int) -> None:
        """What a call cost: from the end of the one before, so that the way between two calls is in it."""
        now = self._clock()
        self._cost.observe(num_tokens, now - self._call_began)
        self._side.has_scored(now - self._call_began)
        self._call_began = now

    def _prefill(self, engine: Engine, batch: PrefixBatch) -> None:
        computed = self._calls.prefill(engine, batch)
        with self._changed:
            for prefix, kv in zip(batch.prefixes, computed, strict=True):
                prefix.kv = kv
                self._prefix_cache.put(prefix.ids, kv)
            self._learn(batch.num_tokens)

    def _score(self, engine: Engine, batch: DocumentBatch) -> None:
        label_logits, chosen = self._calls.score(engine, batch)
        with self._changed:
            if chosen is not None:
                self._side.keep(chosen)
            scored = self._scheduler.scored(batch, label_logits)
            for work in scored:
                work.timings.finished_at = self._clock()
            self._resolve(scored, None)
            self._learn(batch.num_tokens)

    def _resolve(self, works: Iterable[ScoreWork], error: ServiceError | None) -> None:
        """Take the futures of `works` out and settle them on the loop. The caller holds the lock."""
        futures = []
        for work in works:
            future = self._futures.pop(work, None)
            if future is not None:
                futures.append(future)
        if futures:
            self._on_loop(_settle, futures, error)

    def _refuse_all(self, end: ServiceError) -> None:
        with self._changed:
            self._refusal = end
            self._side.end(end)
            for work in self._futures:
                self._scheduler.remove(work)
            self._resolve(list(self._futures), end)

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


def _settle(futures: Sequence[asyncio.Future[None]], error: ServiceError | None) -> None:
    for future in futures:
        if future.done():  # its caller was cancelled between the engine's answer and now
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error.copy())
