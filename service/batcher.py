"""The bridge between asyncio and the one engine thread.

    submit (event loop) -> Scheduler <- take (engine thread) -> engine -> resolve (event loop)

The engine thread pulls: as soon as it is free it asks the scheduler for the next batch, and sleeps on a
condition, without a timeout, only while nothing waits. So a lone request leaves at once, and requests that
arrive while the engine is busy leave together. The thread also builds the engine: no other thread ever runs it.

Every admitted ScoreWork is resolved exactly once, by whoever takes its future out of `_futures`:

    scored      the engine thread, after its last document
    failed      the engine thread, when a batch it is part of raises; other requests are unharmed
    cancelled   `submit` itself, when its caller is cancelled; what still waits is never computed
    ended       the engine thread on its way out, whatever ended it; later submits are refused with the same error

One lock guards scheduler, prefix cache and futures; nobody holds it while computing.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.base import Engine
from engine.prefix_cache import PrefixCache
from service.errors import EngineDeadError, EngineFailedError, NotReadyError, ServiceError
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.work import Batch, DocumentBatch, PrefixBatch, ScoreWork

logger = logging.getLogger(__name__)


class Batcher:
    """Runs admitted work on one engine."""

    def __init__(
        self, scheduler: Scheduler, prefix_cache: PrefixCache, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._scheduler = scheduler
        self._prefix_cache = prefix_cache
        self._metrics = metrics
        self._clock = clock
        self._changed = threading.Condition()
        self._futures: dict[ScoreWork, asyncio.Future[None]] = {}
        self._refusal: ServiceError | None = NotReadyError("the engine is starting")
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(
        self,
        build_engine: Callable[[], Engine],
        on_ready: Callable[[], None],
        on_end: Callable[[BaseException], None],
    ) -> None:
        """Start the engine thread on the running loop.

        `build_engine` runs in that thread; on the loop runs `on_ready` once it has returned, and `on_end` if it
        fails or the thread dies later.
        """
        self._loop = asyncio.get_running_loop()
        arguments = (build_engine, on_ready, on_end)
        self._thread = threading.Thread(target=self._run, args=arguments, name="engine", daemon=True)
        self._thread.start()

    async def submit(self, work: ScoreWork) -> None:
        """Admit `work` and wait until it is scored.

        Raises:
            OverloadedError: refused; nothing was admitted.
            EngineFailedError: a batch it was part of failed.
            EngineDeadError, NotReadyError: the engine is gone, or not there yet.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._refusal is not None:
                raise self._refusal.copy()
            self._admit(work)
            self._futures[work] = future
            self._changed.notify()
        try:
            await future
        finally:
            if future.cancelled():
                with self._changed:
                    self._futures.pop(work, None)
                    self._scheduler.remove(work)

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
        work.num_cached_tokens = sum(map(len, shared)) + sum(map(len, hits))
        self._metrics.count_prefixes("shared", len(shared))
        self._metrics.count_prefixes("hit", len(hits))
        self._metrics.count_prefixes("miss", len(kept) - len(hits))

    def _run(
        self,
        build_engine: Callable[[], Engine],
        on_ready: Callable[[], None],
        on_end: Callable[[BaseException], None],
    ) -> None:
        """The life of the engine thread."""
        engine: Engine | None = None
        try:
            engine = build_engine()
            with self._changed:
                self._refusal = None
            self._on_loop(on_ready)
            while (batch := self._take()) is not None:
                self._compute(engine, batch)
            self._refuse_all(NotReadyError("the service is shutting down"))
        except BaseException as error:  # whatever it is, nobody may be left waiting
            self._refuse_all(EngineDeadError("the engine has ended; the service must be restarted"))
            self._on_loop(on_end, error)
        finally:
            if engine is not None:
                engine.close()

    def _take(self) -> Batch | None:
        """The next batch, waiting for one if need be; None once closing."""
        with self._changed:
            while not self._is_closing:
                batch = self._scheduler.next_batch()
                if batch is not None:
                    return batch
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
                self._resolve(
                    self._scheduler.works_behind(batch), EngineFailedError("the model failed on this request")
                )

    def _prefill(self, engine: Engine, batch: PrefixBatch) -> None:
        computed = engine.prefill_prefixes([prefix.ids for prefix in batch.prefixes])
        self._metrics.prefix_batch_tokens.observe(batch.num_tokens)
        with self._changed:
            for prefix, kv in zip(batch.prefixes, computed, strict=True):
                prefix.kv = kv
                self._prefix_cache.put(prefix.ids, kv)

    def _score(self, engine: Engine, batch: DocumentBatch) -> None:
        label_logits = engine.score_documents([document.to_engine() for document in batch.documents])
        _check_logits(label_logits, len(batch.documents))
        self._metrics.pack_documents.observe(len(batch.documents))
        self._metrics.pack_tokens.observe(batch.num_tokens)
        for document, row in zip(batch.documents, label_logits, strict=True):
            document.work.set_label_logits(document.index, row)
        with self._changed:
            scored = [work for work in self._scheduler.works_behind(batch) if work.is_scored]
            for work in scored:
                work.timings.finished_at = self._clock()
            self._resolve(scored, None)

    def _resolve(self, works: Iterable[ScoreWork], error: ServiceError | None) -> None:
        """Take the futures of `works` out and settle them on the loop. The caller holds the lock."""
        futures = []
        for work in works:
            future = self._futures.pop(work, None)
            if future is not None:
                futures.append(future)
            if error is not None:
                self._scheduler.remove(work)
        if futures:
            self._on_loop(_settle, futures, error)

    def _refuse_all(self, end: ServiceError) -> None:
        with self._changed:
            self._refusal = end
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


def _check_logits(label_logits: NDArray[np.float32], num_documents: int) -> None:
    if len(label_logits) != num_documents or not np.isfinite(label_logits).all():
        raise ValueError(f"label logits {label_logits.shape} for {num_documents} documents, or not all are finite")
