"""Deadlines over the real application: where they come from, what is refused, what expires, what is partial."""

import asyncio
from typing import Any

import pytest

from service.settings import Settings
from tests.api.conftest import Serve, Service
from tests.fakes import fake_artifact

DOCUMENTS = [f"document {number}" for number in range(12)]
BODY = {"query": "q", "documents": DOCUMENTS}
PATHS: list[tuple[str, dict[str, Any]]] = [
    ("/score", BODY),
    ("/v2/rerank", BODY),
    ("/v1/rerank", BODY),
    ("/rerank", {"query": "q", "texts": DOCUMENTS}),
    ("/v1/score", {"queries": "q", "documents": DOCUMENTS}),
    (
        "/v1/score",
        {"query": "q", "items": DOCUMENTS, "label_token_ids": list(fake_artifact().manifest.label_token_ids)},
    ),
]


async def outcome(service: Service, name: str) -> float:
    return await service.metric(f'relevance_requests_total{{outcome="{name}"}}')


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_every_dialect_takes_a_timeout_and_a_priority(service: Service, path: str, body: dict[str, Any]) -> None:
    response = await service.client.post(path, json={**body, "timeout_ms": 60_000, "priority": 3})
    assert response.status_code == 200
    assert "unknown" not in response.text
    assert "no effect" not in response.text


@pytest.mark.parametrize(("path", "body"), PATHS)
@pytest.mark.parametrize("where", ["body", "header"])
async def test_every_dialect_expires(service: Service, path: str, body: dict[str, Any], where: str) -> None:
    headers = {"X-Timeout-Ms": "400"} if where == "header" else {}
    with service.engine.blocked():
        first = await service.blocked_score({"query": "first", "documents": ["d"]})
        asked = {**body, "timeout_ms": 400} if where == "body" else body
        response = await service.client.post(path, json=asked, headers=headers)
    assert response.status_code == (429 if "texts" in body else 504)
    assert "deadline passed" in response.text
    assert (await first).status_code == 200
    assert [len(pack) for pack in service.engine.packs] == [1], "what has expired is never computed"
    assert await outcome(service, "deadline_exceeded") == 1


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "60001", "9" * 30])
async def test_a_header_that_is_no_timeout_is_refused(service: Service, value: str) -> None:
    response = await service.score(BODY, headers={"X-Timeout-Ms": value})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "X-Timeout-Ms"


@pytest.mark.parametrize("value", [0, -1, 1.5, "100", 60_001, True])
async def test_a_field_that_is_no_timeout_is_refused(service: Service, value: object) -> None:
    response = await service.score({**BODY, "timeout_ms": value})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "timeout_ms"


@pytest.mark.parametrize("value", [-1, 1000, "1", None, 1.5])
async def test_the_native_dialect_is_strict_about_priorities(service: Service, value: object) -> None:
    response = await service.score({**BODY, "priority": value})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "priority"


@pytest.mark.parametrize("value", [-5, 5000, None, "7"])
async def test_the_others_take_what_their_clients_send(service: Service, value: object) -> None:
    assert (await service.client.post("/v2/rerank", json={**BODY, "priority": value})).status_code == 200


async def test_of_two_timeouts_the_shorter_counts_and_the_default_is_a_setting(serve: Serve) -> None:
    async with serve(Settings(max_pack_tokens=64, default_timeout_ms=400)) as service:
        with service.engine.blocked():
            first = await service.blocked_score({**BODY, "timeout_ms": 60_000})
            by_default = await service.score({"query": "other", "documents": ["d"]})
            both = await service.score({**BODY, "timeout_ms": 60_000}, headers={"X-Timeout-Ms": "400"})
        assert (by_default.status_code, both.status_code) == (504, 504)
        assert (await first).status_code == 200


async def test_what_cannot_be_in_time_is_refused_before_it_is_tokenised(service: Service) -> None:
    service.app.state.control._deployment.current.scheduler.cost.start([(1, 1e-3), (100, 0.1)])
    with service.engine.blocked():
        first = await service.blocked_score(
            {**BODY, "documents": [f"{n} " * 40 for n in range(100)], "timeout_ms": 30_000}
        )
        late = {"timeout_ms": 2000, "priority": 1}  # behind the first, which takes 12 s
        response = await service.score({**BODY, **late})
        rerank = await service.client.post("/rerank", json={"query": "q", "texts": DOCUMENTS, **late})
        waiting = await service.metric("relevance_waiting_documents")
    await first
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "deadline_unmeetable"
    assert int(response.headers["retry-after"]) >= 1
    assert (rerank.status_code, rerank.json()["error_type"]) == (429, "Overloaded")
    assert waiting == 100, "nothing of what was refused"
    assert await outcome(service, "deadline_unmeetable") == 2


async def test_a_partial_answer_tells_what_was_scored_in_request_order(service: Service) -> None:
    body = {**BODY, "timeout_ms": 400, "partial": True}
    with service.engine.blocked():
        task = await service.blocked_score({"query": "q", "documents": DOCUMENTS[:2]})
    await task  # the first two are held now
    with service.engine.blocked():
        first = await service.blocked_score({"query": "first", "documents": ["d"]})
        answer = (await service.score(body)).json()
    await first
    assert answer["coverage"] == 2 / 12
    assert [result["scored"] for result in answer["results"]] == [True] * 2 + [False] * 10
    assert [result["index"] for result in answer["results"]] == list(range(12))
    unscored = answer["results"][5]
    assert {name for name, value in unscored.items() if value is None} == set(unscored) - {"index", "scored"}
    assert 0 <= answer["results"][0]["score"] <= 1
    assert await outcome(service, "partial") == 1
    assert (
        sum(
            [
                await service.metric(f'relevance_grades_total{{grade="{n}"}}')
                for n in fake_artifact().manifest.spec.scale.names
            ]
        )
        == 2 + 1 + 2
    )
    whole = (await service.score({**body, "timeout_ms": 60_000})).json()
    assert whole["coverage"] == 1.0
    assert whole["results"][:2] == answer["results"][:2]


async def test_what_was_computed_for_one_that_expired_is_kept(service: Service) -> None:
    gate = asyncio.Event()

    def stop_at_third_pack(_: object) -> None:
        if len(service.engine.packs) == 3:
            loop.call_soon_threadsafe(gate.set)
            assert service.engine.go_on.wait(timeout=10)

    loop = asyncio.get_running_loop()
    service.engine.fail_on = stop_at_third_pack  # type: ignore[assignment]
    task = asyncio.create_task(service.score({**BODY, "timeout_ms": 300}))
    await gate.wait()
    response = await task
    service.engine.go_on.set()
    assert response.status_code == 504
    service.engine.fail_on = lambda _: None
    again = (await service.score(BODY)).json()["usage"]
    assert 0 < again["num_cached_pairs"] < 12
    assert again["cache_hit_ratio"] == again["num_cached_pairs"] / 12


async def test_priority_is_served_first(service: Service) -> None:
    with service.engine.blocked():
        first = await service.blocked_score({"query": "first", "documents": ["d"]})
        later = asyncio.create_task(service.score({"query": "q", "documents": ["background " * 3], "priority": 9}))
        await settled(service, 1)
        urgent = asyncio.create_task(service.score({"query": "q", "documents": ["foreground " * 3]}))
        await settled(service, 2)
    await asyncio.gather(first, later, urgent)
    texts = [bytes(ids[:3]) for pack in service.engine.packs[1:] for ids in pack]
    assert len(texts) == 2
    assert texts[0] != texts[1]
    order = service.engine.packs[1:]
    assert order[0][0] == encoded("foreground " * 3)


async def settled(service: Service, number: int) -> None:
    while await service.metric("relevance_waiting_documents") < number:
        await asyncio.sleep(0)


def encoded(text: str) -> tuple[int, ...]:
    artifact = fake_artifact()
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    return encoder.encode_documents(encoder.encode_prefix("q"), [text])[0].ids


async def test_every_request_counts_once(service: Service) -> None:
    """sent = ok + partial + refused + expired + cancelled + failed, whatever happens to whom."""
    sent = 0
    with service.engine.blocked():
        tasks = [await service.blocked_score({"query": "first", "documents": [f"{n} " * 40 for n in range(200)]})]
        bodies: list[dict[str, Any]] = [
            {"query": f"q{n}", "documents": DOCUMENTS, **extra}
            for n in range(5)
            for extra in (
                {},
                {"timeout_ms": 30},
                {"timeout_ms": 2},
                {"timeout_ms": 30, "partial": True},
                {"timeout_ms": 40_000},
                {"documents": []},
            )
        ]
        tasks += [asyncio.create_task(service.score(body)) for body in bodies]
        await asyncio.wait(tasks, timeout=0.2)
        tasks[1].cancel()
    responses = await asyncio.gather(*tasks, return_exceptions=True)
    sent = len(responses)
    lines = (await service.client.get("/metrics")).text.splitlines()
    counted = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if "requests_total{outcome" in line
    }
    outcomes = {series.split('"')[1]: value for series, value in counted.items() if value}
    assert sum(outcomes.values()) == sent, outcomes
    assert {"ok", "partial", "cancelled", "deadline_unmeetable", "invalid_fields"} <= set(outcomes), outcomes
    statuses = [response.status_code for response in responses if not isinstance(response, BaseException)]
    assert statuses.count(429) == outcomes["deadline_unmeetable"]
    assert statuses.count(504) == outcomes.get("deadline_exceeded", 0)
    assert statuses.count(200) == outcomes["ok"] + outcomes["partial"]
    admitted = await service.metric("relevance_admitted_requests_total")
    gone = [
        await service.metric(f'relevance_{what}_requests_total{{step="{step}"}}')
        for what in ("expired", "cancelled")
        for step in ("waiting", "running")
    ]
    assert admitted == outcomes["ok"] + outcomes["partial"] + sum(gone)
