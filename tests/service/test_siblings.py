"""Workers ask one another, and a scrape of one shows all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.siblings import SiblingError, Siblings, merge_expositions

ONE = """# HELP a_total What a counts.
# TYPE a_total counter
a_total{kind="x{y}"} 1.0
# HELP b What b is.
# TYPE b gauge
b 2.5
"""
OTHER = ONE.replace("1.0", "7.0").replace("2.5", "3.5") + "# HELP c Only here.\n# TYPE c gauge\nc 1.0\n"


def test_each_family_is_there_once_and_each_sample_with_its_worker() -> None:
    merged = merge_expositions({1: OTHER, 0: ONE})
    samples = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(merged)
        for sample in family.samples
    ]
    assert samples == [
        ("a_total", {"worker": "0", "kind": "x{y}"}, 1.0),
        ("a_total", {"worker": "1", "kind": "x{y}"}, 7.0),
        ("b", {"worker": "0"}, 2.5),
        ("b", {"worker": "1"}, 3.5),
        ("c", {"worker": "1"}, 1.0),
    ]
    assert merged.count("# TYPE a_total counter") == 1


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Siblings, Siblings]]:
    first, second = (Siblings(tmp_path, index, 2) for index in range(2))

    async def handle(what: str, argument: str) -> str:
        if what == "fail":
            raise RuntimeError(argument)
        return ONE if what == "metrics" else f"{what} {argument}"

    await second.listen(handle)
    yield first, second
    await second.close()


async def test_an_answer_an_error_and_silence(pair: tuple[Siblings, Siblings]) -> None:
    first, second = pair
    assert await first.ask(1, "prepare", "/some/where é\n", 10) == "prepare /some/where é\n"
    with pytest.raises(SiblingError, match="worker 1: RuntimeError: no room"):
        await first.ask(1, "fail", "no room", 10)
    with pytest.raises(SiblingError, match="worker 0 does not answer"):
        await second.ask(0, "metrics", "", 10)
    assert set(await first.ask_all("x", "y", 10)) == {1}
    text = (await first.render(OTHER.encode())).decode()
    assert 'b{worker="0"} 3.5' in text
    assert 'b{worker="1"} 2.5' in text
    assert (await second.render(ONE.encode())).decode() == merge_expositions({1: ONE}), "who is silent is left out"


async def test_a_worker_that_hangs_is_given_up(tmp_path: Path) -> None:
    first, second = (Siblings(tmp_path, index, 2) for index in range(2))
    going_on = asyncio.Event()

    async def hang(*_: str) -> str:
        await going_on.wait()
        return ""

    await second.listen(hang)
    with pytest.raises(SiblingError, match="does not answer"):
        await first.ask(1, "metrics", "", 0.01)
    going_on.set()
    await second.close()


def test_what_took_over_is_remembered(tmp_path: Path) -> None:
    first, second = (Siblings(tmp_path, index, 2) for index in range(2))
    assert second.remembered_artifact() is None
    first.remember_artifact(Path("/some/artifact"))
    first.remember_artifact(Path("/another/one"))
    assert second.remembered_artifact() == Path("/another/one")


async def test_a_socket_left_behind_does_not_matter(tmp_path: Path) -> None:
    async def handle(what: str, _: str) -> str:
        return what

    (tmp_path / "1.sock").touch()
    first, second = (Siblings(tmp_path, index, 2) for index in range(2))
    await second.listen(handle)
    assert await first.ask(1, "again", "", 10) == "again"
    await second.close()
