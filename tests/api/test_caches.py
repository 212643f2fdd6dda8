"""What has been computed, or is being computed, is not computed again; and how faults and limits treat it."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from engine.base import DocumentWork
from relevance.artifact import Artifact
from service.settings import Settings
from tests.api.conftest import Serve, Service
from tests.fakes import FakeEngine

BODY = {"query": "q", "documents": ["a", "b", "c"]}


async def waiting(service: Service, number: int) -> None:
    while await service.metric("relevance_waiting_documents") < number:
        await asyncio.sleep(0)


async def test_a_hit_does_no_work_and_gives_the_same_answer(service: Service) -> None:
    first = (await service.score(BODY)).json()
    service.engine.forget()
    second = (await service.score(BODY)).json()
    assert second["results"] == first["results"]
    assert (service.engine.packs, service.engine.prefills) == ([], [])
    assert second["usage"]["cached_tokens"] == second["usage"]["prompt_tokens"] == first["usage"]["prompt_tokens"]
    assert (first["usage"]["cache_hit_ratio"], second["usage"]["cache_hit_ratio"]) == (0.0, 1.0)
    assert await service.metric('relevance_score_lookups_total{source="local"}') == 3
    assert await service.metric('relevance_score_lookups_total{source="computed"}') == 3
    assert await service.metric("relevance_score_cache_bytes") > 0
    ranked = (await service.client.post("/v2/rerank", json=BODY)).json()["results"]
    assert {one["index"]: one["relevance_score"] for one in ranked} == {
        one["index"]: one["score"] for one in first["results"]
    }
    assert service.engine.packs == [], "another dialect has the same scores"


async def test_a_hit_is_answered_while_the_queue_is_full_and_the_deadline_near(serve: Serve) -> None:
    async with serve(Settings(max_pack_tokens=64, max_waiting_tokens=10)) as service:
        await service.score(BODY)
        with service.engine.blocked():
            first = await service.blocked_score({"query": "first", "documents": ["d " * 30]})
            refused = await service.score({"query": "q", "documents": ["not held"]})
            held = await service.score({**BODY, "timeout_ms": 30_000})
        await first
        assert refused.status_code == 429
        assert held.status_code == 200


async def test_other_conditions_are_other_scores(service: Service) -> None:
    text = {"query": "q", "documents": ["abcdefgh"]}
    plain = (await service.client.post("/v2/rerank", json=text)).json()["results"]
    cut = (await service.client.post("/v2/rerank", json={**text, "max_tokens_per_doc": 3})).json()["results"]
    told = (await service.client.post("/v2/rerank", json={**text, "instruction": "be strict"})).json()["results"]
    end = (await service.client.post("/rerank", json={"query": "q", "texts": ["x" * 500]})).json()
    start = (
        await service.client.post("/rerank", json={"query": "q", "texts": ["x" * 500], "truncation_direction": "Left"})
    ).json()
    assert len({one[0]["relevance_score"] for one in (plain, cut, told)}) == 3
    assert len(service.engine.packs) == 5
    assert end[0]["index"] == start[0]["index"] == 0


async def test_a_held_document_that_was_cut_is_refused_where_no_cut_is_allowed(service: Service) -> None:
    body = {"query": "q", "texts": ["short", "x" * 1000]}
    assert (await service.client.post("/rerank", json=body)).status_code == 200
    response = await service.client.post("/rerank", json={**body, "truncate": False})
    assert response.status_code == 422
    assert "document 1 is longer" in response.json()["error"]


async def test_the_same_pair_under_way_is_computed_once(service: Service) -> None:
    with service.engine.blocked():
        first = await service.blocked_score({"query": "first", "documents": ["d"]})
        tasks = [asyncio.create_task(service.score(BODY)) for _ in range(20)]
        await waiting(service, 4)
        while await service.metric("relevance_admitted_requests_total") < 21:
            await asyncio.sleep(0)
        assert await service.metric("relevance_waiting_documents") == 1 + 3
    await first
    answers = [response.json() for response in await asyncio.gather(*tasks)]
    assert sorted(len(pack) for pack in service.engine.packs) == [1, 3]
    assert all(answer["results"] == answers[0]["results"] for answer in answers)
    assert sorted(answer["usage"]["num_cached_pairs"] for answer in answers) == [0] + [3] * 19
    assert await service.metric('relevance_score_lookups_total{source="shared"}') == 57


@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_that_leaves_or_expires_does_not_hurt_who_waits_for_the_same(service: Service, leaver: int) -> None:
    with service.engine.blocked():
        first = await service.blocked_score({"query": "first", "documents": ["d"]})
        tasks = [asyncio.create_task(service.score(BODY)) for _ in range(2)]
        await waiting(service, 4)
        expired = await service.score({**BODY, "timeout_ms": 400})
        tasks[leaver].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[leaver]
    await first
    assert expired.status_code == 504
    assert (await tasks[1 - leaver]).json()["coverage"] == 1.0
    assert sorted(len(pack) for pack in service.engine.packs) == [1, 3]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("bad allocation"),
        RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
    ],
)
async def test_out_of_memory_fails_one_pack_and_nothing_is_held_of_it(service: Service, error: Exception) -> None:
    service.engine.fail_on = lambda ids: error if len(ids) > 40 else None
    response = await service.score({"query": "q", "documents": ["fine", "x" * 60, "also fine"]})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"
    assert "allocat" not in response.text, "what failed is for the log"
    service.engine.fail_on = lambda _: None
    again = await service.score({"query": "q", "documents": ["fine", "x" * 60, "also fine"]})
    assert again.status_code == 200
    assert again.json()["coverage"] == 1.0
    assert await service.metric("relevance_waiting_documents") == 0


async def test_one_that_shares_a_pair_shares_its_failure_too(service: Service) -> None:
    with service.engine.blocked():
        first = await service.blocked_score({"query": "first", "documents": ["d"]})
        service.engine.fail_on = lambda ids: RuntimeError("broken") if len(ids) == 52 else None
        tasks = [asyncio.create_task(service.score({"query": "q", "documents": ["x" * 50]})) for _ in range(2)]
        await waiting(service, 1)
        while await service.metric("relevance_admitted_requests_total") < 3:
            await asyncio.sleep(0)
    await first
    assert [(await task).status_code for task in tasks] == [500, 500]


async def test_scores_that_are_no_numbers_are_not_held(serve: Serve) -> None:
    class Broken(FakeEngine):
        is_broken = False

        def score_documents(self, documents: list[DocumentWork]) -> np.ndarray:  # type: ignore[override]
            found = super().score_documents(documents)
            return np.full_like(found, np.nan) if self.is_broken else found

    engine = Broken()

    def build(_: Artifact) -> FakeEngine:
        return engine

    async with serve(build=build) as service:
        engine.is_broken = True
        assert (await service.score(BODY)).status_code == 500
        engine.is_broken = False
        assert (await service.score(BODY)).json()["usage"]["num_cached_pairs"] == 0


@pytest.mark.parametrize("by", ["setting", "header"])
async def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve, by: str) -> None:
    never = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"query": '
        await never.wait()

    settings = Settings(body_timeout_seconds=0.05 if by == "setting" else 100.0)
    async with serve(settings) as service:
        headers = {"X-Timeout-Ms": "50"} if by == "header" else {}
        response = await service.client.post("/v2/rerank", content=chunks(), headers=headers)
        assert response.status_code == 408
        assert "10 bytes of the body arrived" in response.json()["message"]
        assert await service.metric('relevance_requests_total{outcome="body_too_slow"}') == 1
