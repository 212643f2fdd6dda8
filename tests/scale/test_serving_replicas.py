"""Replicas that speak with one another, over a fake of Serve's handle."""

from pathlib import Path
from typing import Any

import pytest

from scale.serving.replicas import Replicas, free_number
from service.siblings import SiblingError


class Answers:
    """What `broadcast` returns: results that are waited for."""

    def __init__(self, results: list[Any]) -> None:
        self._results = results

    async def results_async(self, *, return_exceptions: bool) -> list[Any]:
        assert return_exceptions
        return [one if isinstance(one, Exception) else await one for one in self._results]


class Deployment:
    """All replicas of a test; one in `dead` fails as Ray has it fail."""

    def __init__(self) -> None:
        self.replicas: list[Replicas] = []
        self.dead: set[str] = set()

    def broadcast(self, method: str, *arguments: str) -> Answers:
        if not self.replicas:
            raise RuntimeError("no replica runs")
        return Answers(
            [
                ConnectionError("it died") if one.name in self.dead else getattr(one, method)(*arguments)
                for one in self.replicas
            ]
        )


@pytest.fixture
async def deployment() -> Deployment:
    made = Deployment()
    for number, name in enumerate(["aaa", "bbb", "ccc"]):
        replica = Replicas(name, number, b"k" * 32, made)

        async def handle(what: str, argument: str, name: str = name) -> str:
            if what == "metrics":
                return f'# HELP up Whether.\n# TYPE up gauge\nup 1.0\nby{{x="{name}"}} 2.0\n'
            if what == "refuse":
                raise ValueError(argument)
            return f"{name} has {argument}" if name == "bbb" or what != "pair" else ""

        await replica.listen(handle)
        made.replicas.append(replica)
    return made


async def test_one_scrape_shows_all_with_a_label(deployment: Deployment) -> None:
    first = deployment.replicas[0]
    text = (await first.render(b"# HELP up Whether.\n# TYPE up gauge\nup 1.0\n")).decode()
    assert text.count("# HELP up") == 1
    assert all(f'up{{replica="{name}"}} 1.0' in text for name in ("aaa", "bbb", "ccc"))
    assert 'by{replica="bbb",x="bbb"} 2.0' in text
    deployment.dead = {"bbb"}
    text = (await first.render(b"up 1.0\n")).decode()
    assert "bbb" not in text
    assert 'replica="ccc"' in text, "a scrape goes on without who does not answer"
    deployment.replicas.clear()
    assert b"aaa" in await first.render(b"# HELP up Whether.\nup 1.0\n")


async def test_the_texts_behind_a_handle_are_found_at_its_replica(deployment: Deployment) -> None:
    assert await deployment.replicas[0].ask(1, "pair", "00ff", 1.0) == "bbb has 00ff"
    with pytest.raises(SiblingError):  # it says nothing: they are gone
        await deployment.replicas[0].ask(2, "pair", "00ff", 1.0)
    deployment.dead = {"bbb"}
    with pytest.raises(SiblingError):
        await deployment.replicas[0].ask(1, "pair", "00ff", 1.0)


async def test_all_are_asked_but_oneself_and_a_refusal_is_told(deployment: Deployment) -> None:
    first = deployment.replicas[0]
    assert list((await first.ask_all("prepare", "x", 1.0)).values()) == ["bbb has x", "ccc has x"]
    refusals = await first.ask_all("refuse", "no room", 1.0)
    assert [str(one) for one in refusals.values()] == ["a replica: ValueError: no room"] * 2
    deployment.dead = {"ccc"}
    assert isinstance((await first.ask_all("prepare", "x", 1.0))[1], SiblingError)


async def test_a_replica_that_starts_serves_what_took_over(deployment: Deployment, tmp_path: Path) -> None:
    first = deployment.replicas[0]
    late = Replicas("ddd", 3, b"k" * 32, deployment)
    assert await late.join() is None
    first.remember_artifact(tmp_path)
    await first.ask_all("commit", str(tmp_path), 1.0)
    assert await late.join() == tmp_path
    deployment.dead = {"aaa"}
    assert await Replicas("eee", 4, b"", deployment).join() == tmp_path, "whoever of them is asked"
    assert await Replicas("fff", 5, b"", Deployment()).join() is None, "the first of all has nobody to ask"


async def test_one_that_is_starting_says_so(deployment: Deployment) -> None:
    late = Replicas("ddd", 3, b"k" * 32, deployment)
    deployment.replicas.append(late)
    answer = (await deployment.replicas[0].ask_all("prepare", "x", 1.0))[2]
    assert str(answer) == "a replica: it is starting"
    assert late.shared_key(b"fresh") == b"k" * 32


async def test_a_number_is_the_rank_unless_one_that_runs_has_it(deployment: Deployment) -> None:
    late = Replicas("ddd", 1, b"", deployment)
    await late.join()
    assert late.index == 254
    later = Replicas("eee", 3, b"", deployment)
    await later.join()
    assert later.index == 3
    assert free_number(1, {1, 254}) == 253
    assert free_number(255, {255}) == 0
    assert free_number(7, range(256)) == 7, "more than a byte can tell apart"
    assert Replicas("fff", 300, b"", deployment).index == 44
