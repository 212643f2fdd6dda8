"""Scores shared by replicas through Redis, which may fail or stall without hurting a request.

    reading   one MGET for all pairs a request lacks, given up after `timeout_s`
    writing   beside the requests: a bounded backlog, one pipelined batch at a time, dropped when it is full
    breaker   closed -> MAX_FAILURES in a row -> open: Redis is not asked at all -> a PING beside the requests, after a
              pause that doubles from MIN_PAUSE_S to MAX_PAUSE_S -> closed

So a Redis that is gone or stands still costs a few requests `timeout_s` each, and nothing after. What it holds is
not believed blindly: a value of the wrong size or with numbers that are none is no score (`PairRecord.unpack`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.queue_metrics import QueueMetrics

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
MIN_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
MAX_BACKLOG = 256
# A write may take longer than anybody would wait for a read.
WRITE_TIMEOUT_S = 1.0
KEY_PREFIX = b"answer-first:1:"

T = TypeVar("T")
Item = tuple[bytes, bytes]
FAILURES = (RedisError, OSError, TimeoutError)


class RedisCache:
    """A RemoteCache (`service.pair_cache`). Used on one event loop; nothing connects before the first call."""

    def __init__(self, url: str, timeout_s: float, ttl_s: int, metrics: QueueMetrics) -> None:
        """A client of the Redis at `url`; entries live for `ttl_s`.

        Raises:
            ValueError: `url` is no Redis URL.
        """
        self._redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=WRITE_TIMEOUT_S)
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s
        self._metrics = metrics
        self._num_failures = 0
        self._pause_s = MIN_PAUSE_S
        self._backlog: asyncio.Queue[Sequence[Item]] = asyncio.Queue(MAX_BACKLOG)
        self._writing: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the breaker keeps requests away from Redis."""
        return self._num_failures >= MAX_FAILURES

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key; all None when Redis does not answer in time."""
        if not keys or self.is_open:
            return [None] * len(keys)
        found = await self._ask(lambda: self._redis.mget([KEY_PREFIX + key for key in keys]), self._timeout_s)
        if not isinstance(found, list) or len(found) != len(keys):
            return [None] * len(keys)
        return [value if isinstance(value, bytes) else None for value in found]

    def put(self, items: Sequence[Item]) -> None:
        """Store `items` beside the requests."""
        if not items:
            return
        if self.is_open or self._backlog.full():
            self._metrics.redis_dropped_writes.inc(len(items))
            return
        self._backlog.put_nowait(items)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def close(self) -> None:
        """End what runs beside the requests and close the connections; what was not written is dropped."""
        for task in (self._writing, self._probing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        with contextlib.suppress(*FAILURES):
            await self._redis.aclose()

    async def _write(self) -> None:
        """Write the backlog until there is none."""
        while not self._backlog.empty():
            items = self._backlog.get_nowait()

            async def send(batch: Sequence[Item] = items) -> bool:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for key, value in batch:
                        pipeline.set(KEY_PREFIX + key, value, ex=self._ttl_s)
                    await pipeline.execute()
                return True

            if self.is_open or not await self._ask(send, WRITE_TIMEOUT_S):
                self._metrics.redis_dropped_writes.inc(len(items))

    async def _ask(self, call: Callable[[], Awaitable[T]], timeout_s: float) -> T | None:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await call()
        except FAILURES as error:
            self._metrics.redis_failures.inc()
            self._num_failures += 1
            if self._num_failures == MAX_FAILURES:
                logger.warning("redis_given_up error=%s", type(error).__name__)
                self._probing = asyncio.create_task(self._probe())
            return None
        self._num_failures = 0
        return answer

    async def _probe(self) -> None:
        """Ask Redis whether it is there again, until it is."""
        while True:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._redis.ping()
                break
        self._num_failures = 0
        self._pause_s = MIN_PAUSE_S
        logger.info("redis_is_back")
