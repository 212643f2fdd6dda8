"""Start, readiness, faults of the engine thread, clients that go away, metrics."""

import asyncio
import threading
from typing import Any

import orjson
import pytest
from starlette.types import Message

from relevance.artifact import Artifact
from relevance.errors import ArtifactError
from tests.api.conftest import Serve, Service
from tests.fakes import FakeEngine, ThreadDeath, fake_artifact

GOOD = {"query": "q", "documents": ["d"]}


async def test_not_ready_until_warmed_up_and_self_tested(serve: Serve) -> None:
    engine, loaded = FakeEngine(), threading.Event()

    def build(_: Artifact) -> FakeEngine:
        assert loaded.wait(timeout=10)
        return engine

    async def check_not_ready(service: Service, stage: str) -> None:
        response = await service.client.get("/readyz")
        assert response.status_code == 503
        assert (response.json()["ready"], response.json()["stage"]) == (False, stage)
        assert (await service.client.get("/livez")).status_code == 200
        refused = await service.score(GOOD)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_ready"
        assert await service.metric("relevance_ready") == 0

    async with serve(build=build, until_ready=False) as service:
        with engine.blocked():
            await check_not_ready(service, "loading")
            loaded.set()
            await asyncio.to_thread(engine.wait_for_call)
            await check_not_ready(service, "warming_up")
        while (await service.client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0)
        ready = (await service.client.get("/readyz")).json()
        assert (ready["ready"], ready["stage"]) == (True, "ready")
        assert ready["model"] == {"name": "fake", "hash": fake_artifact().hash}
        assert await service.metric("relevance_ready") == 1
        assert (await service.score(GOOD)).status_code == 200


async def test_warm_up_reaches_the_largest_pack(serve: Serve) -> None:
    engine = FakeEngine()
    async with serve(build=lambda _: engine):
        sizes = [sum(map(len, pack)) for pack in engine.packs]
        assert len(set(sizes)) >= 3
        assert 64 - len(engine.packs[0][0]) < max(sizes) <= 64


async def test_an_engine_that_computes_something_else_never_becomes_ready(serve: Serve) -> None:
    manifest = fake_artifact().manifest
    (golden,) = manifest.golden_pairs
    wrong = golden.model_copy(update={"distribution": golden.distribution[::-1]})
    artifact = Artifact(
        fake_artifact().folder,
        manifest.model_copy(update={"golden_pairs": (wrong,)}),
        "0" * 64,
        fake_artifact().tokenizer,
    )
    async with serve(artifact=artifact) as service:
        (error,) = service.fatal
        assert isinstance(error, ArtifactError)
        assert "self-test failed" in str(error)
        response = await service.client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["stage"] == "failed"
        assert "self-test failed" in response.json()["detail"]
        assert (await service.score(GOOD)).status_code == 503


async def test_a_dead_engine_thread_is_told_to_everybody(service: Service) -> None:
    service.engine.fail_on = lambda _: ThreadDeath("killed")
    with service.engine.blocked():
        first = await service.blocked_score(GOOD)
        waiting = asyncio.create_task(service.score({"query": "other", "documents": ["d"]}))
        while await service.metric("relevance_waiting_documents") < 2:
            await asyncio.sleep(0)
    for response in (await first, await waiting):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "engine_dead"
    assert [type(error) for error in service.fatal] == [ThreadDeath]
    assert (await service.client.get("/readyz")).status_code == 503
    assert (await service.client.get("/readyz")).json()["stage"] == "failed"
    assert (await service.client.get("/livez")).status_code == 200
    assert (await service.score(GOOD)).json()["error"]["code"] == "engine_dead"
    assert await service.metric('relevance_requests_total{outcome="engine_dead"}') == 3


async def test_stopping_closes_the_engine(serve: Serve) -> None:
    async with serve() as service:
        assert not service.engine.is_closed
    assert service.engine.is_closed
    assert "engine" not in {thread.name for thread in threading.enumerate()}


class Caller:
    """A client at the level of ASGI messages, which can hang up."""

    def __init__(self, body: Any) -> None:
        self.gone = asyncio.Event()
        self.sent: list[Message] = []
        self._body: list[bytes] = [orjson.dumps(body)]

    async def receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def call(self, service: Service) -> asyncio.Task[None]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": "/score",
            "raw_path": b"/score",
            "query_string": b"",
            "headers": [],
        }
        return asyncio.ensure_future(service.app(scope, self.receive, self.send))


async def test_a_client_that_went_away_is_not_computed_for(service: Service) -> None:
    with service.engine.blocked():
        first = await service.blocked_score(GOOD)
        caller = Caller({"query": "gone", "documents": ["a", "b"]})
        call = caller.call(service)
        while await service.metric("relevance_waiting_documents") < 3:
            await asyncio.sleep(0)
        caller.gone.set()
        await call
        assert await service.metric("relevance_waiting_documents") == 1
    assert (await first).status_code == 200
    assert sum(map(len, service.engine.prefills)) == 1
    assert [len(pack) for pack in service.engine.packs] == [1]
    assert await service.metric('relevance_requests_total{outcome="cancelled"}') == 1
    assert await service.metric('relevance_requests_total{outcome="ok"}') == 1


async def test_a_client_that_goes_away_while_sending_is_counted(service: Service) -> None:
    caller = Caller(GOOD)
    caller._body.clear()
    caller.gone.set()
    await caller.call(service)
    assert await service.metric('relevance_requests_total{outcome="cancelled"}') == 1


async def test_a_cancelled_handler_cancels_its_work(service: Service) -> None:
    with service.engine.blocked():
        first = await service.blocked_score(GOOD)
        caller = Caller({"query": "gone", "documents": ["a", "b"]})
        call = caller.call(service)
        while await service.metric("relevance_waiting_documents") < 3:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while await service.metric("relevance_waiting_documents") > 1:
            await asyncio.sleep(0)
    assert (await first).status_code == 200
    assert await service.metric('relevance_requests_total{outcome="cancelled"}') == 1


async def test_openapi_describes_bodies_and_answers(service: Service) -> None:
    spec = (await service.client.get("/openapi.json")).json()
    operation = spec["paths"]["/score"]["post"]
    forms = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert [sorted(form["properties"]) for form in forms[:2]] == [
        ["documents", "explain", "instruction", "partial", "priority", "query", "timeout_ms"],
        ["explain", "instruction", "pairs", "partial", "priority", "timeout_ms"],
    ]
    assert set(operation["responses"]) == {"200", "400", "401", "408", "413", "422", "429", "500", "503", "504"}
    assert {"ScoreAnswer", "PairResult", "ErrorAnswer"} <= set(spec["components"]["schemas"])
    assert (await service.client.get("/docs")).status_code == 200
