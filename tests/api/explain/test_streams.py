"""Streams: resumed where they broke, given up with their readers, and nothing left behind."""

import asyncio
import json
import socket

from service.explain_api import stream as stream_module
from service.explain_api.stream import END
from service.settings import Settings
from tests.api.explain.conftest import EVENTS, JSON, PAIR, Live, data_of, listening


async def test_the_headers_let_nothing_collect_events(live: Live) -> None:
    response = await live.explain(PAIR, EVENTS)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store"
    assert "content-length" not in response.headers


async def test_events_come_while_the_engine_works(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    with live.service.engine.blocked():
        async with live.stream({"handle": handle}) as events:
            first = await anext(events)
            assert first.event == "grade"
            assert await live.metric("relevance_event_streams") == 1
            live.service.engine._open.set()
            assert [event.event async for event in events][-1] == "done"


async def test_silence_is_filled_with_comments(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    was, stream_module.PING_S = stream_module.PING_S, 0.01
    try:
        with live.service.engine.blocked():
            async with live.client.stream("POST", "/explain", json={"handle": handle}, headers=EVENTS) as response:
                chunks = response.aiter_text()
                text = ""
                while text.count(": ping\n\n") < 3:
                    text += await anext(chunks)
                assert text.startswith("event: grade\n")
    finally:
        stream_module.PING_S = was


async def test_it_goes_on_behind_any_event_decoded_anew_or_held() -> None:
    for cache_mib in (0, 1):
        async with listening(Settings(max_pack_tokens=64, explain_cache_mib=cache_mib)) as live:
            later = (await live.explain(PAIR)).json()
            whole = await live.events(explain_id=later["explain_id"])
            assert whole[-1].id == END
            for place, event in enumerate(whole[:-1]):
                rest = await live.events(explain_id=later["explain_id"], last_event_id=event.id)
                assert [(one.event, one.id) for one in rest] == [(one.event, one.id) for one in whole[place + 1 :]]
                assert data_of(rest)[:-1] == data_of(whole[place + 1 :])[:-1]
            begun = await live.metric('relevance_explain_begun_total{kv="prefilled"}')
            begun += await live.metric('relevance_explain_begun_total{kv="resumed"}')
            assert begun == (1 if cache_mib else len(whole))
            posted = await live.events(PAIR, last_event_id=whole[3].id)
            assert [one.id for one in posted] == [one.id for one in whole[4:]]


async def test_told_otherwise_it_does_not_go_on(live: Live) -> None:
    later = (await live.explain(PAIR)).json()
    whole = await live.events(explain_id=later["explain_id"])
    place, _, check = whole[3].id.partition("-")
    other = f"{place}-{int(check, 16) ^ 1:08x}"
    (error,) = await live.events(explain_id=later["explain_id"], last_event_id=other)
    assert (error.event, json.loads(error.data)["error"]["code"], error.id) == ("error", "cannot_resume", END)
    assert await live.metric('relevance_explanations_total{outcome="cannot_resume"}') == 1


async def test_a_reader_that_hangs_up_ends_its_decode_within_one_step(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    engine = live.service.engine
    with engine.blocked():
        async with live.stream({"handle": handle}) as events:
            await anext(events)
            await asyncio.to_thread(engine.wait_for_call)
            engine.answers.clear()
        await live.wait_for("relevance_explain_streams", 0)
    await live.assert_nothing_held()
    assert engine.answers == []
    assert await live.metric('relevance_explanations_total{outcome="cancelled"}') == 1
    assert await live.metric('relevance_explain_given_up_total{reason="cancelled"}') == 1


async def test_a_reader_of_several_that_hangs_up_ends_them_all(live: Live) -> None:
    handles = await live.handles(*(f"cable {n}" for n in range(12)))
    with live.service.engine.blocked():
        async with live.stream({"handles": handles}) as events:
            assert {json.loads((await anext(events)).data)["index"] for _ in range(8)} == set(range(8))
        await live.wait_for("relevance_explain_streams", 0)
    await live.assert_nothing_held()
    assert await live.metric('relevance_explanations_total{outcome="cancelled"}') == 8


async def test_one_that_waits_for_json_may_hang_up_too(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    with live.service.engine.blocked():
        asking = asyncio.create_task(live.explain({"handles": [handle, handle]}, JSON))
        await live.wait_for("relevance_explain_streams", 1)
        asking.cancel()
        await live.wait_for("relevance_explain_streams", 0)
    await live.assert_nothing_held()
    assert await live.metric('relevance_requests_total{outcome="cancelled"}') == 1


async def test_a_reader_that_does_not_read_holds_up_nobody(live: Live) -> None:
    handles = await live.handles(*(f"cable {n}" for n in range(8)))
    host, port = live.url.removeprefix("http://").split(":")
    body = json.dumps({"handles": handles}).encode()
    head = f"POST /explain HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        await asyncio.to_thread(deaf.connect, (host, int(port)))
        deaf.sendall(head.encode() + body)
        async with asyncio.timeout(20):
            while await live.metric('relevance_explanation_sources_total{source="decoded"}') < 8:
                await asyncio.sleep(0)
        for handle in handles:
            assert data_of(await live.events({"handle": handle}))[-1][0] == "done"
        await live.wait_for("relevance_explain_streams", 0)
    await live.assert_nothing_held()


async def opened(live: Live, body: dict[str, object]) -> asyncio.StreamWriter:
    """A connection on which an explanation has begun."""
    host, port = live.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps(body).encode()
    head = f"POST /explain HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    assert b" 200 OK" in await reader.readline()
    assert b"event: grade\n" in await reader.readuntil(b"event: grade\n")
    return writer


async def test_a_thousand_opened_and_abandoned_hold_nothing(live: Live) -> None:
    handles = await live.handles(*(f"cable {n}" for n in range(50)))
    # Ten readers of each: a thousand decodes of their own are tests/service/explaining's.
    bodies = [{"handle": handles[n // 20], "temperature": 1.0, "seed": n // 10} for n in range(1000)]
    for start in range(0, 1000, 50):
        writers = await asyncio.gather(*(opened(live, body) for body in bodies[start : start + 50]))
        for writer in writers:
            writer.transport.abort()
        await live.wait_for("relevance_event_streams", 0)
    await live.assert_nothing_held()
    held = await live.metric("relevance_explain_kv_bytes")
    ended = [await live.metric(f'relevance_explanations_total{{outcome="{how}"}}') for how in ("ok", "cancelled")]
    assert sum(ended) == 1000
    scored = await live.client.post("/score", json={"query": "usb c cable", "documents": ["cable 7", "another"]})
    assert scored.status_code == 200
    assert await live.metric("relevance_explain_kv_bytes") == held


async def test_one_too_many_is_told_when_to_come_back() -> None:
    async with listening(Settings(max_pack_tokens=64, max_explanations=1)) as live:
        first, second = await live.handles("a", "b")
        with live.service.engine.blocked():
            async with live.stream({"handle": first}) as events:
                await anext(events)
                for headers in (EVENTS, JSON):
                    refused = await live.explain({"handle": second}, headers)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_explanations")
                    assert int(refused.headers["retry-after"]) >= 1
        await live.assert_nothing_held()
        assert (await live.explain({"handle": second}, JSON)).status_code == 200


async def test_the_deadline_is_an_event_once_the_stream_has_begun(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    with live.service.engine.blocked():
        events = data_of(await live.events({"handle": handle, "timeout_ms": 50}))
        assert [name for name, _ in events] == ["grade", "error"]
        assert events[1][1]["error"]["code"] == "deadline_exceeded"
        late = await live.explain({"handle": handle}, {**JSON, "x-timeout-ms": "50"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    await live.assert_nothing_held()


async def test_an_engine_that_fails_is_an_event_and_a_reader_may_come_back(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    live.service.engine.fail_on = lambda _: ValueError("it failed")
    events = await live.events({"handle": handle})
    assert [event.event for event in events] == ["grade", "error"]
    assert json.loads(events[1].data)["error"]["code"] == "engine_failed"
    live.service.engine.fail_on = lambda _: None
    explain_id = json.loads(events[0].data)["explain_id"]
    rest = await live.events(explain_id=explain_id, last_event_id=events[1].id)
    assert rest[-1].event == "done"
    await live.assert_nothing_held()
