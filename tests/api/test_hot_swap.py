"""Another artifact takes over: no request is dropped, no answer is a mixture, and a bad one changes nothing."""

import asyncio
import gc
import json
import shutil
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from relevance.artifact import Artifact
from relevance.errors import ArtifactError
from service import garbage
from service.app import create_app
from service.deployment import check_contract
from service.errors import UnusableArtifactError
from service.settings import Settings
from tests.api.conftest import Serve, Service
from tests.fakes import FakeEngine, fake_artifact, fake_spec

KEY = "an-admin-key-for-tests"
ADMIN = {"authorization": f"Bearer {KEY}"}
GOOD = {"query": "q", "documents": ["d"]}
OLD = fake_artifact()
NEW = fake_artifact(
    fake_spec().model_copy(
        update={"template": fake_spec().template.model_copy(update={"document": "{document}!<sep>"})}
    )
)
ARTIFACTS = {
    "new": NEW,
    "old": OLD,
    "no instruction": fake_artifact(fake_spec(instruction=None)),
}


class Swaps:
    """A service whose artifacts are named instead of read from a disk, and its engines by artifact."""

    def __init__(self, service: Service, engines: dict[str, FakeEngine]) -> None:
        self.service = service
        self.engines = engines

    async def swap(self, name: str) -> httpx.Response:
        return await self.service.client.post("/admin/artifact", json={"path": name}, headers=ADMIN)

    async def score(self, body: Any = GOOD) -> httpx.Response:
        return await self.service.score(body, headers=ADMIN)

    async def metric(self, series: str) -> float:
        lines = (await self.service.client.get("/metrics", headers=ADMIN)).text.splitlines()
        (line,) = [line for line in lines if line.startswith(series + " ")]
        return float(line.rsplit(" ", 1)[1])


def load(folder: Path) -> Artifact:
    if folder.name not in ARTIFACTS:
        raise ArtifactError(f"{folder}: damaged or altered")
    return ARTIFACTS[folder.name]


@pytest.fixture
async def swaps(serve: Serve) -> AsyncIterator[Swaps]:
    engines = {OLD.hash: FakeEngine(), NEW.hash: FakeEngine()}
    settings = Settings(max_pack_tokens=64, api_keys=SecretStr(f"ops {KEY} admin"), public_metrics=True)
    async with serve(settings, OLD, build=lambda artifact: engines[artifact.hash], load=load) as service:
        yield Swaps(service, engines)


async def test_the_new_one_answers_and_the_old_one_is_closed(swaps: Swaps) -> None:
    before = (await swaps.score()).json()
    answer = await swaps.swap("new")
    assert answer.status_code == 200
    assert answer.json() == {
        "model": {"name": "fake", "hash": NEW.hash},
        "previous": {"name": "fake", "hash": OLD.hash},
    }
    after = (await swaps.score()).json()
    assert (before["model"]["hash"], after["model"]["hash"]) == (OLD.hash, NEW.hash)
    assert before["results"] != after["results"]
    while await swaps.metric("relevance_draining_models"):
        await asyncio.sleep(0)
    assert swaps.engines[OLD.hash].is_closed
    assert not swaps.engines[NEW.hash].is_closed
    assert await swaps.metric('relevance_swaps_total{outcome="ok"}') == 1
    assert await swaps.metric(f'relevance_artifact_info{{hash="{NEW.hash}",name="fake",precision="fp32"}}') == 1
    assert OLD.hash not in (await swaps.service.client.get("/metrics")).text
    assert (await swaps.service.client.get("/readyz")).json()["model"]["hash"] == NEW.hash


async def test_a_request_under_way_is_answered_by_the_one_it_began_with(swaps: Swaps) -> None:
    old = swaps.engines[OLD.hash]
    with old.blocked():
        held = asyncio.create_task(swaps.score({"query": "held", "documents": ["a", "b", "c" * 60]}))
        await asyncio.to_thread(old.wait_for_call)
        assert (await swaps.swap("new")).status_code == 200
        assert (await swaps.score()).json()["model"]["hash"] == NEW.hash
        assert not old.is_closed
        assert await swaps.metric("relevance_draining_models") == 1
    answer = (await held).json()
    assert answer["model"]["hash"] == OLD.hash
    assert len(answer["results"]) == 3
    while not old.is_closed:
        await asyncio.sleep(0)


async def test_the_old_model_is_freed_although_it_was_frozen(swaps: Swaps) -> None:
    old = weakref.ref(swaps.service.app.state.control._deployment.current)
    await swaps.score()
    garbage.freeze()  # as the program does when it is ready: from here on no collection looks at it
    try:
        await swaps.swap("new")
        while await swaps.metric("relevance_draining_models"):
            await asyncio.sleep(0)
        gc.collect()
        assert old() is None
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "damaged or altered"), ("no instruction", "takes no instruction")]
)
async def test_an_artifact_that_cannot_take_over_changes_nothing(swaps: Swaps, name: str, reason: str) -> None:
    answer = await swaps.swap(name)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "unusable_artifact"
    assert reason in answer.json()["error"]["message"]
    assert (await swaps.score()).json()["model"]["hash"] == OLD.hash
    assert await swaps.metric('relevance_swaps_total{outcome="refused"}') == 1
    assert (await swaps.service.client.get("/readyz")).status_code == 200


async def test_an_engine_that_fails_while_starting_changes_nothing(swaps: Swaps) -> None:
    swaps.engines[NEW.hash].fail_on = lambda _: MemoryError("no room")
    answer = await swaps.swap("new")
    assert answer.status_code == 422
    assert "MemoryError: no room" in answer.json()["error"]["message"]
    assert swaps.engines[NEW.hash].is_closed or swaps.engines[NEW.hash].packs == []
    assert (await swaps.score()).json()["model"]["hash"] == OLD.hash
    assert swaps.service.fatal == []
    swaps.engines[NEW.hash].fail_on = lambda _: None
    assert (await swaps.swap("new")).status_code == 200


async def test_the_same_artifact_again_is_no_change(swaps: Swaps) -> None:
    assert (await swaps.swap("old")).json()["model"]["hash"] == OLD.hash
    assert await swaps.metric('relevance_swaps_total{outcome="unchanged"}') == 1
    assert not swaps.engines[OLD.hash].is_closed


async def test_one_at_a_time(swaps: Swaps) -> None:
    new = swaps.engines[NEW.hash]
    with new.blocked():
        first = asyncio.create_task(swaps.swap("new"))
        await asyncio.to_thread(new.wait_for_call)
        second = await swaps.swap("new")
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "swap_under_way"
        assert second.headers["retry-after"] == "5"
        assert (await swaps.score()).json()["model"]["hash"] == OLD.hash, "the old one serves meanwhile"
    assert (await first).status_code == 200


async def test_a_new_engine_that_dies_later_is_fatal_and_a_drained_one_is_not(swaps: Swaps) -> None:
    old, new = swaps.engines[OLD.hash], swaps.engines[NEW.hash]
    with old.blocked():
        held = asyncio.create_task(swaps.score({"query": "held", "documents": ["a"]}))
        await asyncio.to_thread(old.wait_for_call)
        await swaps.swap("new")
        old.fail_on = lambda _: SystemExit("killed")
    assert (await held).status_code == 503
    assert swaps.service.fatal == []
    assert (await swaps.score()).status_code == 200
    new.fail_on = lambda _: SystemExit("killed")
    assert (await swaps.score({"query": "other", "documents": ["d"]})).status_code == 503
    assert len(swaps.service.fatal) == 1


async def test_who_may(swaps: Swaps) -> None:
    response = await swaps.service.client.post("/admin/artifact", json={"path": "new"})
    assert response.status_code == 401
    for body, status in (
        ({}, 422),
        ({"path": ""}, 422),
        ({"path": "new", "force": True}, 422),
        ({"path": "a\0b"}, 422),
    ):
        response = await swaps.service.client.post("/admin/artifact", json=body, headers=ADMIN)
        assert response.status_code == status
    assert (await swaps.score()).json()["model"]["hash"] == OLD.hash


def test_other_grades_break_the_contract() -> None:
    scale = fake_spec().scale
    renamed = scale.model_copy(
        update={"grades": tuple(g.model_copy(update={"name": g.name + "!"}) for g in scale.grades)}
    )
    other = fake_artifact(fake_spec().model_copy(update={"scale": renamed}))
    with pytest.raises(UnusableArtifactError, match="its grades are"):
        check_contract(OLD, other)
    check_contract(OLD, NEW)


TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_half_written_and_altered_files_do_not_load(name: str, tmp_path: Path) -> None:
    for damage in ("half", "flipped", "missing"):
        folder = Path(shutil.copytree(TINY, tmp_path / damage))
        content = (folder / name).read_bytes()
        middle = len(content) // 2
        if damage == "missing":
            (folder / name).unlink()
        else:
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            (folder / name).write_bytes(content[:middle] if damage == "half" else flipped)
        if name == "manifest.json" and damage == "flipped":
            # Nothing vouches for the manifest itself but what it says of the rest: cut its hashes instead.
            manifest = json.loads(content)
            manifest["files"]["model.onnx"]["sha256"] = "0" * 64
            (folder / name).write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError):
            create_app(Settings(artifact=folder))
