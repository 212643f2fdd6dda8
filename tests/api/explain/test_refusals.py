"""What is refused: each with the field at fault, before anything is computed; and who is let in."""

from typing import Any

import pytest
from pydantic import SecretStr

from service.settings import InvalidSettingsError, Settings
from tests.api.conftest import serve_app
from tests.api.explain.conftest import EVENTS, JSON, PAIR, Live, listening
from tests.api.test_hot_swap import ADMIN, ARTIFACTS, KEY, OLD
from tests.fakes import FakeEngine

GOOD = "ETrXnq02k4NY5bvbcFKeBWefXnITFtAi-gAARYIi_u_jVrweAioqRJ0-Jw"


BAD: list[tuple[Any, str]] = [
    ({}, "query"),
    ({"query": "q"}, "document"),
    ({"query": " ", "document": "d"}, "query"),
    ({**PAIR, "temperature": 3}, "temperature"),
    ({**PAIR, "temperature": "hot"}, "temperature"),
    ({**PAIR, "max_tokens": 0}, "max_tokens"),
    ({**PAIR, "seed": -1}, "seed"),
    ({**PAIR, "seed": 2**53}, "seed"),
    ({**PAIR, "grade": 4}, "grade"),
    ({**PAIR, "grade": True}, "grade"),
    ({**PAIR, "timeout_ms": 0}, "timeout_ms"),
    ({**PAIR, "timeout_ms": 10**9}, "timeout_ms"),
    ({**PAIR, "colour": "red"}, "colour"),
    ({**PAIR, "instruction": "x " * 100}, "instruction"),
    ({"handle": "junk"}, "handle"),
    ({"handle": 7}, "handle"),
    ({"handle": "x" * 500}, "handle"),
    ({"handle": GOOD}, "handle"),
    ({"handle": GOOD, "handles": [GOOD]}, "handle"),
    ({"handles": []}, "handles"),
    ({"handles": ["junk"]}, "handles.0"),
    ({"handles": "junk"}, "handles"),
    ({"handles": [GOOD] * 101}, "handles"),
    ({"pairs": []}, "pairs"),
    ({"pairs": [PAIR, {"query": "q"}]}, "pairs.1.document"),
    ([], "body"),
]


async def test_every_field_at_fault_is_named() -> None:
    async with serve_app() as service:
        for body, field in BAD:
            for headers in (EVENTS, JSON, {}):
                response = await service.client.post("/explain", json=body, headers=headers)
                error = response.json()["error"]
                assert (response.status_code, error["code"]) == (422, "invalid_fields"), error
                assert error["field"].startswith(field), error
        assert service.engine.answers == []


@pytest.mark.parametrize("name", ["query", "document"])
async def test_texts_that_come_along_come_together(live: Live, name: str) -> None:
    (handle,) = await live.handles(PAIR["document"])
    response = await live.explain({"handle": handle, name: PAIR[name]})
    (other,) = {"query", "document"} - {name}
    assert (response.status_code, response.json()["error"]["field"]) == (422, other)


async def test_an_id_that_is_none(live: Live) -> None:
    for explain_id in ("junk", GOOD, "x" * 82):
        response = await live.client.get(f"/explain/{explain_id}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_explanation")
    assert (await live.client.get("/explain")).status_code == 405
    assert (await live.client.post("/explain/junk")).status_code == 405


async def test_no_json(live: Live) -> None:
    response = await live.client.post("/explain", content=b"{")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_json")


async def test_more_than_one_body_may_bring() -> None:
    async with listening(Settings(max_pack_tokens=64, max_body_bytes=2000)) as live:
        response = await live.explain({"query": "q", "document": "d" * 2000})
        assert response.status_code == 413


async def test_another_artifact_says_that_the_handle_is_gone() -> None:
    settings = Settings(max_pack_tokens=64, api_keys=SecretStr(f"ops {KEY} admin"))
    async with listening(
        settings, artifact=OLD, build=lambda _: FakeEngine(), load=lambda path: ARTIFACTS[path.name]
    ) as live:
        live.client.headers.update(ADMIN)
        (handle,) = await live.handles("d")
        later = (await live.explain({"handle": handle})).json()
        swapped = await live.client.post("/admin/artifact", json={"path": "new"})
        assert swapped.status_code == 200, swapped.text
        for response, field in (
            (await live.explain({"handle": handle}, EVENTS), "handle"),
            (await live.explain({"handles": [handle]}, JSON), "handles.0"),
            (await live.client.get(later["stream_url"]), "explain_id"),
        ):
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["field"]) == (410, "handle_gone", field)
            assert "score the pair again" in error["message"]
        (fresh,) = await live.handles("d")
        assert (await live.explain({"handle": fresh}, JSON)).status_code == 200
        await live.client.post("/admin/artifact", json={"path": "old"})
        assert (await live.explain({"handle": handle}, JSON)).status_code == 200, "it serves again"


async def test_a_stream_ends_with_the_artifact_it_began_with() -> None:
    engines: list[FakeEngine] = []

    def build(_: object) -> FakeEngine:
        engines.append(FakeEngine())
        return engines[-1]

    settings = Settings(max_pack_tokens=64, api_keys=SecretStr(f"ops {KEY} admin"))
    async with listening(settings, artifact=OLD, build=build, load=lambda path: ARTIFACTS[path.name]) as live:
        live.client.headers.update(ADMIN)
        (handle,) = await live.handles("d")
        with engines[0].blocked():
            async with live.stream({"handle": handle}) as events:
                assert (await anext(events)).event == "grade"
                assert (await live.client.post("/admin/artifact", json={"path": "new"})).status_code == 200
                engines[0]._open.set()
                assert [event.event async for event in events][-1] == "done"
        assert engines[1].answers == []


async def test_keys_and_allowances_are_those_of_a_score() -> None:
    settings = Settings(
        max_pack_tokens=64, api_keys=SecretStr("shop a-key-of-the-shop documents=1; free another-key-of-ours")
    )
    async with listening(settings) as live:
        assert (await live.explain(PAIR)).status_code == 401
        assert (await live.client.get("/explain/junk")).status_code == 401
        key = {"x-api-key": "a-key-of-the-shop", **JSON}
        assert (await live.explain({"pairs": [PAIR] * 2}, key)).status_code == 200
        limited = await live.explain(PAIR, key)
        assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limited")
        assert int(limited.headers["retry-after"]) >= 1


async def test_a_key_that_signs_must_be_long() -> None:
    with pytest.raises(InvalidSettingsError, match="handle_key"):
        async with serve_app(Settings(handle_key=SecretStr("short"))):
            pass


async def test_replicas_with_one_key_take_one_anothers_handles() -> None:
    settings = Settings(max_pack_tokens=64, handle_key=SecretStr("a key for both of them"))
    async with listening(settings) as one, listening(settings) as two:
        (handle,) = await one.handles(PAIR["document"])
        gone = await two.explain({"handle": handle}, JSON)
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "handle_gone")
        told = (await two.explain({"handle": handle, **PAIR}, JSON)).json()
        first = (await one.explain({"handle": handle}, JSON)).json()
        assert told["explanation"] == first["explanation"]
        whole = await one.events(explain_id=first["explain_id"])
        rest = await two.events(explain_id=first["explain_id"], last_event_id=whole[4].id)
        assert [(event.id, event.data) for event in rest[:-1]] == [(event.id, event.data) for event in whole[5:-1]]
