"""One exchange: what is timed from when, and every way it can end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from loadtest.sender import HUNG_UP, LOST, Sender
from loadtest.work import explain_body, is_complete, is_piece

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nServer-Timing: total;dur=1\r\n"
JSON_ANSWER = HEAD + b'Content-Length: 8\r\n\r\n{"a": 1}'
EVENTS = [b"event: grade\ndata: {}\n\n", b"event: delta\ndata: {}\n\n", b"event: done\ndata: {}\n\n"]


@asynccontextmanager
async def server(parts: list[bytes], gap_s: float = 0.0, hold: bool = False) -> AsyncIterator[str]:
    """Answers every request with these parts, `gap_s` apart, then closes, or holds the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for place, part in enumerate(parts):
                await asyncio.sleep(gap_s if place else 0.0)
                writer.write(part)
            if hold:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    handlers: list[asyncio.Task[None] | None] = []
    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await asyncio.gather(*(handler for handler in handlers if handler is not None))


async def test_a_request_that_was_due_earlier_has_waited_since_then() -> None:
    async with server([JSON_ANSWER]) as url, Sender(url) as sender:
        on_time = await sender.post("/", b"{}")
        late = await sender.post("/", b"{}", due_at=time.monotonic() - 5.0)
    assert on_time.late_send_s == 0.0
    assert late.late_send_s >= 5.0
    assert late.seconds >= 5.0 + late.service_s - 1e-9
    assert late.service_s < 5.0
    assert (late.status, late.json(), late.headers["server-timing"]) == (200, {"a": 1}, "total;dur=1")


async def test_giving_up_by_plan_is_no_loss() -> None:
    async with server([], hold=True) as url, Sender(url, give_up_s=0.1) as sender:
        assert (await sender.post("/", b"{}", hang_up_s=0.01)).status == HUNG_UP
        assert (await sender.post("/", b"{}")).status == LOST


@pytest.mark.parametrize("parts", [[], [b"no http at all\r\n\r\n"], [JSON_ANSWER[:-3]]])
async def test_what_is_no_answer_is_lost(parts: list[bytes]) -> None:
    async with server(parts) as url, Sender(url) as sender:
        assert (await sender.post("/", b"{}")).status == LOST


async def test_nobody_there_is_lost() -> None:
    async with Sender("http://127.0.0.1:9") as sender:
        assert (await sender.post("/", b"{}")).status == LOST


async def test_the_first_piece_of_a_stream_is_timed_apart_from_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    async with server([head, *EVENTS], gap_s=0.05) as url, Sender(url) as sender:
        answer = await sender.stream("/", b"{}", is_piece)
    assert answer.body == b"".join(EVENTS)
    assert is_complete(answer.body)
    assert answer.first_piece_s is not None
    # The grade and the first piece come after one gap each, the end after one more.
    assert 0.1 <= answer.first_piece_s <= answer.service_s - 0.05


async def test_a_refused_stream_is_an_answer() -> None:
    async with server([JSON_ANSWER.replace(b"200 OK", b"429 Too Many")]) as url, Sender(url) as sender:
        answer = await sender.stream("/", b"{}", is_piece)
    assert (answer.status, answer.first_piece_s) == (429, None)
    assert not is_complete(answer.body)


def test_the_best_result_is_the_one_explained() -> None:
    results = [{"score": 0.2, "handle": "a"}, {"score": 0.9, "handle": "b"}, {"score": None, "handle": None}]
    assert explain_body({"results": results}) == b'{"handle":"b"}'
    assert explain_body({"results": [{"score": 0.2}]}) is None
    assert explain_body([]) is None
