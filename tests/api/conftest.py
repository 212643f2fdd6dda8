"""The real application over a fake engine, spoken to through ASGI."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from relevance.artifact import Artifact, load_artifact
from service.app import ProcessHooks, create_app
from service.settings import Settings
from tests.fakes import FakeEngine, fake_artifact


@dataclass
class Service:
    """A running application and what one needs to talk to it."""

    app: FastAPI
    client: httpx.AsyncClient
    engine: FakeEngine
    fatal: list[BaseException] = field(default_factory=list)

    async def score(self, body: Any, **options: Any) -> httpx.Response:
        return await self.client.post("/score", json=body, **options)

    async def blocked_score(self, body: Any) -> asyncio.Task[httpx.Response]:
        """A request that has reached the engine, which must be blocked."""
        task = asyncio.create_task(self.score(body))
        await asyncio.to_thread(self.engine.wait_for_call)
        return task

    async def metric(self, series: str) -> float:
        """The value of one series of /metrics, as in `relevance_pairs_total`."""
        lines = (await self.client.get("/metrics")).text.splitlines()
        (line,) = [line for line in lines if line.startswith(series + " ")]
        return float(line.rsplit(" ", 1)[1])


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@asynccontextmanager
async def serve_app(
    settings: Settings | None = None,
    artifact: Artifact | None = None,
    build: Callable[[Artifact], FakeEngine] | None = None,
    until_ready: bool = True,
    load: Callable[[Path], Artifact] = load_artifact,
) -> AsyncIterator[Service]:
    engine = FakeEngine()
    settled = asyncio.Event()
    fatal: list[BaseException] = []

    def end(error: BaseException) -> None:
        fatal.append(error)
        settled.set()

    app = create_app(
        settings or Settings(max_pack_tokens=64),
        artifact=artifact or fake_artifact(),
        engine_factory=build or (lambda _: engine),
        load=load,
        hooks=ProcessHooks(on_ready=settled.set, on_fatal=end),
    )
    # An exception nobody handles must come back as the response a caller would see.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        if until_ready:
            await asyncio.wait_for(settled.wait(), timeout=10)
            engine.forget()
        yield Service(app, client, engine, fatal)


@pytest.fixture
def serve() -> Serve:
    return serve_app


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serve_app() as running:
        yield running
