"""The real application over a fake engine, on a socket: streams must be seen while they come."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from httpx_sse import EventSource, ServerSentEvent

from service.settings import Settings
from tests.api.conftest import Service, serve_app

EVENTS, JSON = {"accept": "text/event-stream"}, {"accept": "application/json"}
PAIR = {"query": "usb c cable", "document": "USB-C to USB-C 1 m"}
# What one fake explanation takes of positions, so that every pair leaves them.
ANSWERS = Settings(max_pack_tokens=64, score_cache_mib=1)


@dataclass
class Live:
    """An application that listens."""

    service: Service
    client: httpx.AsyncClient
    url: str

    async def handles(self, *documents: str, query: str = "usb c cable") -> list[str]:
        body = {"query": query, "documents": list(documents), "explain": True}
        answer = (await self.client.post("/score", json=body)).json()
        return [result["handle"] for result in answer["results"]]

    async def explain(self, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.client.post("/explain", json=body, headers=headers or {})

    @asynccontextmanager
    async def stream(
        self, body: Any = None, explain_id: str = "", **headers: str
    ) -> AsyncIterator[AsyncGenerator[ServerSentEvent, None]]:
        """Events as they come: of a POST, or of a GET."""
        method, path = ("GET", f"/explain/{explain_id}") if explain_id else ("POST", "/explain")
        content = {} if body is None else {"json": body}
        asked = {**EVENTS, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.client.stream(method, path, headers=asked, **content) as response:
            assert response.status_code == 200, await response.aread()
            yield EventSource(response).aiter_sse()  # type: ignore[misc]

    async def events(self, body: Any = None, explain_id: str = "", **headers: str) -> list[ServerSentEvent]:
        async with self.stream(body, explain_id, **headers) as events:
            return [event async for event in events]

    async def metric(self, series: str) -> float:
        return await self.service.metric(series)

    async def wait_for(self, series: str, value: float) -> None:
        async with asyncio.timeout(20):
            while await self.metric(series) != value:
                await asyncio.sleep(0)

    async def assert_nothing_held(self) -> None:
        for series in ("event_streams", "explanations_under_way", "explain_streams", "explain_holds"):
            await self.wait_for(f"relevance_{series}", 0)


def data_of(events: list[ServerSentEvent]) -> list[tuple[str, Any]]:
    return [(event.event, json.loads(event.data)) for event in events]


@asynccontextmanager
async def listening(settings: Settings = ANSWERS, **options: Any) -> AsyncIterator[Live]:
    async with serve_app(settings, **options) as service:
        config = uvicorn.Config(service.app, port=0, lifespan="off", log_config=None, http="httptools", loop="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                yield Live(service, client, url)
        finally:
            server.should_exit = server.force_exit = True
            await serving


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    async with listening() as one:
        yield one
