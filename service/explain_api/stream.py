"""Explanations as server-sent events: what each event says, how a reader resumes, and what closes a stream.

    event: grade   {"grade", "grade_name", "explain_id", "stream_url", "model"}
    event: delta   {"step", "text"}
    event: step    {"step", "value"}
    event: done    {"usage", "timing", "resumed", "source"}
    event: error   {"error": {"code", "message", "field"?}}

Of several explanations in one stream each event says its `index` too. An id is the event's place and a checksum of all
that was said up to it, so that a reader who comes back with `Last-Event-ID`, to whichever process, goes on exactly
where it was, or is told that it cannot. Framing is FastAPI's own (`fastapi.sse`). A comment goes out whenever nothing
else does, so that no proxy takes the line for dead.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from service.dialects.native import error_answer
from service.errors import CannotResumeError, ServiceError
from service.explain_api.sharing import Reading, Told
from service.explaining.events import Delta, Done, Grade, Step

PING_S = 10.0
# A connection that takes nothing for so long is given up. What it could hold by then is one told explanation.
MAX_SEND_S = 60.0
# With it an EventSource that comes back by itself is told, with 204, to stay away.
END = "end"
NO_BUFFERING: Mapping[str, str] = {"X-Accel-Buffering": "no"}

_EVENT_ID = re.compile(r"(\d{1,6})-([0-9a-f]{8})")


class LastEvent(NamedTuple):
    """The last event that a reader has seen."""

    place: int
    check: int


def read_last_event(value: str | None) -> LastEvent | None:
    """What the header `Last-Event-ID` says; None for nothing, or nothing of ours."""
    match = _EVENT_ID.fullmatch(value or "")
    return None if match is None else LastEvent(int(match[1]), int(match[2], 16))


@dataclass(frozen=True, slots=True)
class Label:
    """What a stream says of the explanation itself."""

    explain_id: str
    model: Mapping[str, str]
    index: int | None = None
    """Place among several; None for a single one."""

    @property
    def stream_url(self) -> str:
        """Where its events can be read."""
        return f"/explain/{self.explain_id}"

    @property
    def place(self) -> dict[str, Any]:
        """What every event of it says."""
        return {} if self.index is None else {"index": self.index}


def done_info(done: Done, source: str) -> dict[str, Any]:
    """What an explanation cost, on the wire."""
    usage, timing = done.usage, done.timing
    return {
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "forced_tokens": usage.forced_tokens,
            "decode_steps": usage.decode_steps,
        },
        "timing": {
            "queue_ms": _ms(timing.queue_s),
            "first_token_ms": _ms(timing.first_token_s),
            "total_ms": _ms(timing.total_s),
        },
        "resumed": done.resumed,
        "source": source,
    }


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def event_frame(told: Told, label: Label, source: str) -> bytes:
    """One event as bytes."""
    event = told.event
    if isinstance(event, Grade):
        name, data = "grade", {"grade": event.grade, "grade_name": event.name, "explain_id": label.explain_id}
        data |= {"stream_url": label.stream_url, "model": dict(label.model)}
    elif isinstance(event, Delta):
        name, data = "delta", {"step": event.step, "text": event.text}
    elif isinstance(event, Step):
        name, data = "step", {"step": event.name, "value": event.value}
    else:
        name, data = "done", done_info(event, source)
    is_last = isinstance(event, Done) and label.index is None
    event_id = END if is_last else f"{told.place}-{told.check:08x}"
    return _frame(name, label.place | data, event_id)


def error_frame(error: ServiceError, label: Label) -> bytes:
    """An error as an event; a reader that comes back by itself is let in again only where that may help."""
    data = label.place | error_answer(error.code, str(error), error.field_errors)
    retry_ms = None if error.retry_after_s is None else 1000 * error.retry_after_s
    return _frame("error", data, None if error.is_retryable or label.index is not None else END, retry_ms)


def _frame(name: str, data: Any, event_id: str | None, retry_ms: int | None = None) -> bytes:
    return format_sse_event(data_str=orjson.dumps(data).decode(), event=name, id=event_id, retry=retry_ms)


async def frames(reading: Reading, label: Label, last: LastEvent | None = None) -> AsyncGenerator[bytes, None]:
    """The events of `reading` behind `last`, with a comment whenever there is none for a while."""
    try:
        while True:
            told = await reading.next(PING_S)
            if told is None:
                yield KEEPALIVE_COMMENT
                continue
            if last is None or told.place > last.place:
                yield event_frame(told, label, reading.source)
            elif told.place == last.place and told.check != last.check:
                raise CannotResumeError("this explanation went otherwise before; read it from its beginning")
            if isinstance(told.event, Done):
                return
    except ServiceError as error:
        reading.outcome = error.code
        yield error_frame(error, label)


class EventStream(EventSourceResponse):
    """A response of events that lets go of everything at its end, however it ends."""

    def __init__(self, events: AsyncGenerator[bytes, None], held: ExitStack) -> None:
        """`held` is closed once the response has been sent, or cannot be."""
        super().__init__(events, headers=NO_BUFFERING)
        self._events = events
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end, the client goes or takes nothing any more."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(MAX_SEND_S):
                await send(message)

        with self._held:
            async with aclosing(self._events):
                try:
                    await super().__call__(scope, receive, send_in_time)
                except TimeoutError:
                    return


async def merged(streams: list[AsyncGenerator[bytes, None]], num_at_once: int) -> AsyncGenerator[bytes, None]:
    """Frames of several streams as they come, so many of them at a time."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)
    turns = asyncio.Semaphore(num_at_once)

    async def run(stream: AsyncGenerator[bytes, None]) -> None:
        async with turns, aclosing(stream):
            async for frame in stream:
                await queue.put(frame)
        await queue.put(None)

    tasks = [asyncio.create_task(run(stream)) for stream in streams]
    try:
        num_open = len(tasks)
        while num_open:
            frame = await queue.get()
            if frame is None:
                num_open -= 1
            else:
                yield frame
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
