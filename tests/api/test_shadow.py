"""Shadow mode: a share is scored by the candidate too, the drift is exported, and no caller notices anything."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relevance.artifact import Artifact
from relevance.pair import Pair
from relevance.scoring import expected_score
from service.app import create_app
from service.settings import InvalidSettingsError, Settings
from service.shadow import MAX_WAITING
from tests.api.conftest import Service, serve_app
from tests.api.test_hot_swap import ARTIFACTS, NEW, OLD
from tests.fakes import FakeEngine, expected_distribution

BODY = {"query": "q", "documents": ["one", "two", "three"]}
SETTINGS = Settings(max_pack_tokens=64, shadow_artifact=Path("new"), shadow_share=1.0)


@asynccontextmanager
async def shadowed(
    settings: Settings = SETTINGS, candidate: FakeEngine | None = None
) -> AsyncIterator[tuple[Service, FakeEngine]]:
    engines = {OLD.hash: FakeEngine(), NEW.hash: candidate or FakeEngine()}

    def build(artifact: Artifact) -> FakeEngine:
        return engines[artifact.hash]

    async with serve_app(settings, OLD, build=build, load=lambda folder: ARTIFACTS[folder.name]) as service:
        yield service, engines[NEW.hash]


async def until(service: Service, series: str, value: float) -> None:
    while await service.metric(series) != value:
        await asyncio.sleep(0)


async def test_the_drift_is_exported_and_the_answer_is_the_old_one() -> None:
    async with shadowed() as (service, _):
        await until(service, "relevance_shadow_ready", 1)
        answer = (await service.score(BODY)).json()
        assert answer["model"]["hash"] == OLD.hash
        await until(service, 'relevance_shadow_requests_total{outcome="scored"}', 1)
        pairs = [Pair("q", document) for document in BODY["documents"]]
        new = [expected_score(expected_distribution(pair, NEW.manifest.spec)[None])[0] for pair in pairs]
        shifts = [float(score) - result["score"] for score, result in zip(new, answer["results"], strict=True)]
        assert all(abs(shift) > 1e-3 for shift in shifts)
        assert await service.metric("relevance_shadow_score_difference_sum") == pytest.approx(sum(map(abs, shifts)))
        for direction, number in (("higher", sum(s > 0 for s in shifts)), ("lower", sum(s < 0 for s in shifts))):
            assert await service.metric(f'relevance_shadow_pairs_total{{score="{direction}"}}') == number
        flips = [
            await service.metric(f'relevance_shadow_grade_flips_total{{grade="{d}"}}') for d in ("higher", "lower")
        ]
        new_grades = [int(expected_distribution(pair, NEW.manifest.spec).argmax()) for pair in pairs]
        changes = [new - result["grade"] for new, result in zip(new_grades, answer["results"], strict=True)]
        assert flips == [sum(c > 0 for c in changes), sum(c < 0 for c in changes)]


async def test_a_candidate_that_hangs_holds_up_nobody_and_what_it_cannot_take_is_dropped() -> None:
    candidate = FakeEngine()
    async with shadowed(candidate=candidate) as (service, _):
        await until(service, "relevance_shadow_ready", 1)
        with candidate.blocked():
            await service.score(BODY)
            await asyncio.to_thread(candidate.wait_for_call)
            for number in range(MAX_WAITING + 3):
                body = {"query": f"q{number}", "documents": ["d"]}
                assert (await service.score(body)).status_code == 200
            assert await service.metric('relevance_shadow_requests_total{outcome="dropped"}') == 3
        await until(service, 'relevance_shadow_requests_total{outcome="scored"}', MAX_WAITING + 1)


async def test_a_candidate_that_fails_is_counted_and_goes_on() -> None:
    async with shadowed() as (service, candidate):
        await until(service, "relevance_shadow_ready", 1)
        candidate.fail_on = lambda _: MemoryError("no room")
        assert (await service.score(BODY)).status_code == 200
        await until(service, 'relevance_shadow_requests_total{outcome="failed"}', 1)
        candidate.fail_on = lambda _: None
        await service.score({"query": "other", "documents": ["d"]})
        await until(service, 'relevance_shadow_requests_total{outcome="scored"}', 1)
        assert service.fatal == []


async def test_a_candidate_that_does_not_pass_its_self_test_takes_nothing() -> None:
    candidate = FakeEngine()
    candidate.fail_on = lambda _: RuntimeError("cannot be loaded")
    async with shadowed(candidate=candidate) as (service, _):
        while not candidate.is_closed:
            await asyncio.sleep(0)
        assert (await service.score(BODY)).status_code == 200
        assert await service.metric("relevance_shadow_ready") == 0
        assert (await service.client.get("/readyz")).status_code == 200


async def test_only_the_share_is_drawn_and_other_cuts_are_skipped() -> None:
    settings = SETTINGS.model_copy(update={"shadow_share": 1e-9})
    async with shadowed(settings) as (service, _):
        await service.score(BODY)
        for outcome in ("scored", "skipped", "dropped"):
            assert await service.metric(f'relevance_shadow_requests_total{{outcome="{outcome}"}}') == 0
    async with shadowed() as (service, _):
        body = {"query": "q", "documents": ["d"], "max_tokens_per_doc": 5}
        assert (await service.client.post("/v2/rerank", json=body)).status_code == 200
        assert await service.metric('relevance_shadow_requests_total{outcome="skipped"}') == 1


async def test_its_thread_ends_with_the_service() -> None:
    async with shadowed() as (service, candidate):
        await until(service, "relevance_shadow_ready", 1)
    while not candidate.is_closed:
        await asyncio.sleep(0)
    while "shadow" in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0)


def test_a_candidate_that_grades_otherwise_stops_the_start() -> None:
    settings = SETTINGS.model_copy(update={"shadow_artifact": Path("no instruction")})
    with pytest.raises(InvalidSettingsError, match=r"shadow_artifact: .*instruction"):
        create_app(settings, artifact=OLD, load=lambda folder: ARTIFACTS[folder.name])
