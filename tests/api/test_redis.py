"""Scores shared through a real Redis, which is killed, stalled, filled with rubbish and started again."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.assembly import open_remote
from service.metrics import Metrics
from service.redis_cache import KEY_PREFIX, MAX_FAILURES
from service.settings import InvalidSettingsError, Settings
from tests.api.conftest import Service, serve_app

redis_asyncio = pytest.importorskip("redis.asyncio", reason="the extra `redis` is not installed")
BINARY = shutil.which("redis-server")
needs_server = pytest.mark.skipif(BINARY is None, reason="no redis-server on this machine")
BODY = {"query": "q", "documents": ["a", "b", "c"]}


class RedisServer:
    """A Redis of this test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self.process = subprocess.Popen([str(BINARY), *options], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "Ready to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@asynccontextmanager
async def replica(url: str, **options: int) -> AsyncIterator[Service]:
    """A service that keeps no scores of its own, so that whatever is not computed came from Redis."""
    given = {"redis_timeout_ms": 2000, "score_cache_mib": 0, **options}
    async with serve_app(Settings(max_pack_tokens=64, redis_url=url, **given)) as service:  # type: ignore[arg-type]
        yield service


async def lookups(service: Service, source: str) -> float:
    return await service.metric(f'relevance_score_lookups_total{{source="{source}"}}')


async def written(server: RedisServer, number: int) -> None:
    async with redis_asyncio.Redis.from_url(server.url) as client:
        while await client.dbsize() < number:
            await asyncio.sleep(0)


@needs_server
async def test_what_one_replica_has_computed_another_need_not(redis_server: RedisServer) -> None:
    async with replica(redis_server.url) as first, replica(redis_server.url) as second:
        one = (await first.score(BODY)).json()
        await written(redis_server, 3)
        two = (await second.score({**BODY, "documents": ["c", "b", "a", "d"]})).json()
        assert [len(pack) for pack in second.engine.packs] == [1], "d alone"
        assert [result["distribution"] for result in two["results"][:3]] == [
            result["distribution"] for result in reversed(one["results"])
        ]
        assert two["usage"]["num_cached_pairs"] == 3
        assert await lookups(second, "redis") == 3


@needs_server
async def test_what_came_from_redis_is_held_here_too(redis_server: RedisServer) -> None:
    async with replica(redis_server.url) as first, replica(redis_server.url, score_cache_mib=1) as second:
        await first.score(BODY)
        await written(redis_server, 3)
        for _ in range(2):
            assert (await second.score(BODY)).json()["usage"]["num_cached_pairs"] == 3
        assert (await lookups(second, "redis"), await lookups(second, "local")) == (3, 3)


@needs_server
async def test_rubbish_is_no_score(redis_server: RedisServer) -> None:
    async with replica(redis_server.url) as service, redis_asyncio.Redis.from_url(redis_server.url) as client:
        before = (await service.score(BODY)).json()["results"]
        await written(redis_server, 3)
        for number, key in enumerate(await client.keys(KEY_PREFIX + b"*")):
            await client.set(key, [b"", b"x" * 25, b"\xff" * 25][number])
        assert (await service.score(BODY)).json()["results"] == before
        await client.flushall()
        assert (await service.score(BODY)).json()["results"] == before


@needs_server
@pytest.mark.parametrize("fault", ["killed", "stalled"])
async def test_a_redis_that_fails_under_load_hurts_nobody_and_may_come_back(
    redis_server: RedisServer, fault: str
) -> None:
    async with replica(redis_server.url, redis_timeout_ms=100) as service:
        expected = (await service.score(BODY)).json()["results"]
        number = 0

        async def client() -> None:
            nonlocal number
            for _ in range(15):
                number += 1
                bodies = ({"query": f"q{number}", "documents": [f"d{number}", "e"]}, BODY)
                for body in bodies:
                    response = await service.score(body)
                    assert response.status_code == 200
                    assert body is not BODY or response.json()["results"] == expected
                if number == 10:
                    if fault == "killed":
                        redis_server.kill()
                    else:
                        redis_server.process.send_signal(signal.SIGSTOP)

        await asyncio.gather(*(client() for _ in range(4)))
        failures = await service.metric("relevance_redis_failures_total")
        # Those under way when it failed, the write among them, may fail too; after that it is not asked.
        assert MAX_FAILURES <= failures <= MAX_FAILURES + 12
        assert await service.metric("relevance_redis_dropped_writes_total") > 0
        if fault == "killed":
            redis_server.start()
        else:
            redis_server.process.send_signal(signal.SIGCONT)
        before = await lookups(service, "redis")
        while await lookups(service, "redis") == before:
            assert (await service.score(BODY)).status_code == 200
            await asyncio.sleep(0.05)


async def test_a_redis_that_never_was_there_hurts_nobody() -> None:
    async with replica("redis://127.0.0.1:1/0") as service:
        for number in range(10):
            assert (await service.score({"query": f"q{number}", "documents": ["d"]})).status_code == 200
        assert await service.metric("relevance_redis_failures_total") <= MAX_FAILURES + 4
        assert await lookups(service, "computed") == 10


def test_a_url_that_is_none_stops_the_start() -> None:
    metrics = Metrics(["no", "yes"], ["ok"]).queue
    assert open_remote(Settings(), metrics) is None
    with pytest.raises(InvalidSettingsError, match=r"redis_url: .*scheme"):
        open_remote(Settings(redis_url="http://somewhere"), metrics)
