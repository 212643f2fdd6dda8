"""The edge before Serve's proxy: keys into headers, bodies as they were, and one clear error for what was lost."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from scale.serving.affinity import key_of
from scale.serving.edge import PEEK_BYTES, Edge, middlewares
from scale.serving.environment import AFFINITY_HEADER, ENVIRONMENT

OURS = {"x-content-type-options": "nosniff"}
BODY = {"query": "usb c", "documents": ["a", "b"]}
KEY = key_of("/score", json.dumps(BODY).encode())


def client(app: ASGIApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Edge(app), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://edge")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What a replica would be given."""
    request = Request(scope, receive)
    seen = {"key": request.headers.get(AFFINITY_HEADER), "body": (await request.body()).decode()}
    headers = [("x-request-id", "one"), ("x-request-id", "one"), *OURS.items()]
    response = Response(json.dumps(seen), media_type="application/json")
    response.raw_headers += [(name.encode(), value.encode()) for name, value in headers]
    await response(scope, receive, send)


async def test_a_request_gets_its_key_and_keeps_its_body() -> None:
    async with client(echo) as edge:
        answer = await edge.post("/score", json=BODY)
        assert answer.json()["key"] == KEY
        assert json.loads(answer.json()["body"]) == BODY
        assert answer.headers.get_list("x-request-id") == ["one"], "Serve adds it once more"
        assert (await edge.get("/readyz")).json() == {"key": None, "body": ""}


async def test_a_callers_own_key_is_taken_and_its_body_not_looked_at() -> None:
    async with client(echo) as edge:
        answer = await edge.post("/score", json=BODY, headers={AFFINITY_HEADER: "mine"})
        assert answer.json()["key"] == "mine"
        assert json.loads(answer.json()["body"]) == BODY


async def test_a_large_body_is_passed_on_whole_without_a_key() -> None:
    body = json.dumps({"query": "usb c", "documents": ["x" * 2 * PEEK_BYTES]})
    chunks = [body[start : start + 300_000].encode() for start in range(0, len(body), 300_000)]

    async def sent() -> Any:
        for chunk in chunks:
            yield chunk

    async with client(echo) as edge:
        answer = await edge.post("/score", content=sent())
        assert answer.json() == {"key": None, "body": body}


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve's proxy, when a replica died with the request: it returns, and has sent nothing."""


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ConnectionError


def says(status: int) -> Callable[[Scope, Receive, Send], Any]:
    async def serve_itself(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("Path '/' not found", status, {"x-request-id": "two"})(scope, receive, send)

    return serve_itself


@pytest.mark.parametrize("app", [nothing, fails, says(404), says(500), says(503)])
async def test_what_no_replica_answered_is_one_clear_retryable_error(app: ASGIApp) -> None:
    async with client(app) as edge:
        answer = await edge.post("/score", json=BODY)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["code"] == "not_ready"
        tei = await edge.post("/rerank", json={"query": "a", "texts": ["b"]})
        assert set(tei.json()) >= {"error", "error_type"}, "in the dialect of the path"


async def test_a_replicas_own_errors_are_its_own() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("{}", 429, OURS)(scope, receive, send)

    async with client(refuses) as edge:
        assert (await edge.post("/score", json=BODY)).status_code == 429


async def test_a_stream_that_breaks_is_not_answered_twice() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        async def pieces() -> Any:
            yield b"event: grade\n\n"
            raise ConnectionError

        await StreamingResponse(pieces(), headers=OURS)(scope, receive, send)

    async with client(breaks) as edge:
        with pytest.raises(ConnectionError):
            await httpx.AsyncClient(transport=httpx.ASGITransport(Edge(breaks)), base_url="http://edge").post(
                "/explain"
            )
        assert b"not_ready" not in (await edge.post("/explain", json={})).content


async def test_serves_own_pages_are_left_alone() -> None:
    async with client(says(200)) as edge:
        assert (await edge.get("/-/healthz")).text == "Path '/' not found"


def test_what_the_environment_names_is_there() -> None:
    assert ENVIRONMENT["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == f"{middlewares.__module__}.middlewares"
    assert [one.cls for one in middlewares()] == [Edge]
