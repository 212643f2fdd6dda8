"""What the playground is told, and the candidate it asks beside the artifact."""

import asyncio
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from relevance.pair import Pair
from relevance.scoring import expected_score
from service.errors import NotReadyError
from service.pages.playground import FILES
from service.pages.samples import Sample, read_samples
from service.settings import Settings
from service.shadow import MAX_WAITING, Shadow
from service.shadow_metrics import ShadowMetrics
from tests.api.conftest import Serve, Service
from tests.api.test_hot_swap import NEW, OLD
from tests.api.test_shadow import SETTINGS, shadowed, until
from tests.fakes import FakeEngine, expected_distribution

BODY = {"query": "q", "documents": ["one", "two"]}
PATH = "/playground/candidate"
ROOT = Path(__file__).parents[2]


def test_every_file_of_the_pages_has_a_route_and_every_route_a_file() -> None:
    static = ROOT / "service" / "pages" / "static"
    assert all(path.is_file() for path in FILES.values())
    assert {path.name for path in static.iterdir()} == {path.name for path in FILES.values()} | {"docs.html", "docs.js"}


async def test_the_page_is_told_what_serves(service: Service) -> None:
    about = (await service.client.get("/playground/about")).json()
    ready = (await service.client.get("/readyz")).json()
    assert {name: about["model"][name] for name in ("name", "hash")} == ready["model"]
    assert about["candidate"] is None
    assert about["samples"] == []
    assert about["needs_key"] is False
    assert about["max_documents"] == Settings().max_documents
    assert (await service.client.post(PATH, json=BODY)).status_code == 404


def test_samples_are_those_of_the_card(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == ()
    card = tmp_path / "README.md"
    card.write_bytes(b"\xff\xfe")
    assert read_samples(tmp_path) == ()
    lines = ["# Card", "- **not here**", "    1. no", "## Sample queries", "Words.", "    1. lost", "- **one**"]
    lines += ["    1. first, with **stars**", "    2. second", "- **none**", "## Next", "- **after**", "    1. no"]
    card.write_text("\n".join(lines), encoding="utf-8")
    assert read_samples(tmp_path) == (Sample("one", ("first, with **stars**", "second")),)


def test_the_default_has_samples() -> None:
    samples = read_samples(ROOT / "artifacts" / "default")
    assert len(samples) >= 3
    assert all(len(sample.documents) >= 2 for sample in samples)


async def test_the_candidate_gives_its_own_scores() -> None:
    async with shadowed() as (service, _):
        await until(service, "relevance_shadow_ready", 1)
        answer = (await service.client.post(PATH, json=BODY)).json()
        assert answer["model"]["hash"] == NEW.hash
        for result, document in zip(answer["results"], BODY["documents"], strict=True):
            expected = expected_distribution(Pair("q", document), NEW.manifest.spec)
            assert result["distribution"] == pytest.approx(expected.tolist())
            assert result["score"] == pytest.approx(expected_score(expected[None])[0])
        about = (await service.client.get("/playground/about")).json()
        assert (about["model"]["hash"], about["candidate"]["hash"]) == (OLD.hash, NEW.hash)
        for bad in ({}, {"query": " ", "documents": ["d"]}, {**BODY, "documents": ["d"] * 1001}, {**BODY, "x": 1}):
            assert (await service.client.post(PATH, json=bad)).status_code == 422


async def test_what_a_candidate_scores_is_taken_from_the_allowance_of_the_key() -> None:
    keys = SecretStr("page a-key-with-few-documents documents=0.01")
    async with shadowed(SETTINGS.model_copy(update={"api_keys": keys})) as (service, candidate):
        service.client.headers["x-api-key"] = "a-key-with-few-documents"
        await until(service, "relevance_shadow_ready", 1)
        assert (await service.client.post(PATH, json=BODY)).status_code == 200
        candidate.forget()
        refused = await service.client.post(PATH, json=BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert candidate.packs == []


async def test_who_asks_a_candidate_too_much_is_told_to_come_later_and_it_goes_on_after_a_failure() -> None:
    candidate = FakeEngine()
    async with shadowed(candidate=candidate) as (service, _):
        await until(service, "relevance_shadow_ready", 1)
        with candidate.blocked():
            asked = [asyncio.create_task(service.client.post(PATH, json=BODY))]
            await asyncio.to_thread(candidate.wait_for_call)
            asked += [asyncio.create_task(service.client.post(PATH, json=BODY)) for _ in range(MAX_WAITING + 2)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result().status_code for task in done} == {429}
            assert all(task.result().headers["retry-after"] == "1" for task in done)
            candidate.fail_on = lambda _: RuntimeError("broken")
        statuses = sorted(response.status_code for response in await asyncio.gather(*asked))
        assert statuses.count(429) == 2
        assert 500 in statuses
        candidate.fail_on = lambda _: None
        assert (await service.client.post(PATH, json=BODY)).status_code == 200


async def test_a_candidate_that_ends_leaves_nobody_waiting() -> None:
    candidate, metrics = FakeEngine(), ShadowMetrics(CollectorRegistry())
    shadow = Shadow(NEW, lambda _: candidate, metrics, share=1.0, draw=lambda: 1.0)
    with pytest.raises(NotReadyError):
        shadow.ask([Pair("q", "too early")])
    shadow.start()
    while not shadow.is_ready:
        await asyncio.sleep(0)
    candidate.forget()
    with candidate.blocked():
        running = shadow.ask([Pair("q", "running")])
        await asyncio.to_thread(candidate.wait_for_call)
        waiting = [shadow.ask([Pair("q", f"waiting {place}")]) for place in range(2)]
        shadow.stop()
        with pytest.raises(NotReadyError):
            shadow.ask([Pair("q", "too late")])
    assert (await asyncio.wrap_future(running)).shape == (1, NEW.manifest.spec.scale.num_grades)
    for one in waiting:
        with pytest.raises(NotReadyError, match="has ended"):
            await asyncio.wait_for(asyncio.wrap_future(one), timeout=10)


async def test_pages_may_be_kept_only_if_asked_for_again(service: Service) -> None:
    response: httpx.Response = await service.client.get("/playground/app.js")
    assert response.headers.get_list("cache-control") == ["no-cache"]
    assert response.headers["content-type"].startswith("text/javascript")
    assert (await service.client.get("/playground/../app.py")).status_code == 404


async def test_a_service_without_it_has_no_such_page(serve: Serve) -> None:
    async with serve(Settings(max_pack_tokens=64, playground=False)) as plain:
        for path in ("/", "/playground/about", "/playground/app.js"):
            assert (await plain.client.get(path)).status_code == 404
        assert (await plain.client.get("/docs")).status_code == 200
