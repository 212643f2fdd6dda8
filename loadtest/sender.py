"""One exchange over HTTP: kept connections, and times counted from when the request should have been sent.

due -> sent            the client's own lag: it was busy, or the system woke it late
sent -> last byte      what the service and the way to it took
due -> last byte       what the caller of a busy system waits: no slow answer keeps a later request from being due
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

# Less than any server or load balancer keeps an idle connection.
KEPT_S = 3.0
_EVENTS = {"Accept": "text/event-stream"}
HUNG_UP = 0
"""Status of a request that its client gave up."""
LOST = -1
"""Status of a request whose connection failed, or that was not answered before the sender gave up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    """HTTP's, or HUNG_UP, or LOST."""
    seconds: float
    """From when it should have been sent to the last byte of the answer."""
    late_send_s: float
    """How much later than intended it was sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    first_piece_s: float | None = None
    """From sending to the first event of a stream."""

    @property
    def service_s(self) -> float:
        """From sending to the last byte."""
        return self.seconds - self.late_send_s

    def json(self) -> Any:
        """The parsed body."""
        return orjson.loads(self.body)


class Sender:
    """Requests to one service; `async with`."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, give_up_s: float = 60.0) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        self._timeout = aiohttp.ClientTimeout(total=give_up_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, headers=self._headers, auto_decompress=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(
        self, path: str, content: bytes, due_at: float | None = None, hang_up_s: float | None = None
    ) -> Answer:
        """POST a body and read the answer, or hang up after `hang_up_s`. `due_at` is of `time.monotonic`."""
        return await self._exchange(path, content, due_at, hang_up_s, None)

    async def stream(self, path: str, content: bytes, is_piece: Callable[[Sequence[bytes]], bool]) -> Answer:
        """POST a body and read a stream of server-sent events; the first that `is_piece`, given its lines, is timed."""
        return await self._exchange(path, content, None, None, is_piece)

    async def _exchange(
        self,
        path: str,
        content: bytes,
        due_at: float | None,
        hang_up_s: float | None,
        is_piece: Callable[[Sequence[bytes]], bool] | None,
    ) -> Answer:
        if self._session is None:
            raise RuntimeError("a sender is used inside `async with`")
        sent_at = time.monotonic()
        due_at = sent_at if due_at is None else due_at
        status, headers, body, first_s = LOST, dict[str, str](), b"", None
        try:
            asked = self._session.post(self._url + path, data=content, headers=None if is_piece is None else _EVENTS)
            async with asyncio.timeout(hang_up_s), asked as response:
                if is_piece is None or response.status != 200:
                    body = await response.read()
                else:
                    body, first_at = await _read_events(response, is_piece)
                    first_s = None if first_at is None else first_at - sent_at
                status = response.status
                headers = {name.lower(): value for name, value in response.headers.items()}
        except TimeoutError:
            # aiohttp's own limit is a TimeoutError too.
            status = HUNG_UP if hang_up_s is not None else LOST
        except (aiohttp.ClientError, OSError):
            status = LOST
        return Answer(status, time.monotonic() - due_at, sent_at - due_at, headers, body, first_s)


async def _read_events(
    response: aiohttp.ClientResponse, is_piece: Callable[[Sequence[bytes]], bool]
) -> tuple[bytes, float | None]:
    """The whole stream, and when its first piece was there, of `time.monotonic`."""
    lines: list[bytes] = []
    event: list[bytes] = []
    first_at: float | None = None
    async for line in response.content:
        lines.append(line)
        if line.strip():
            event.append(line.strip())
            continue
        if first_at is None and is_piece(event):
            first_at = time.monotonic()
        event = []
    return b"".join(lines), first_at
