"""A lean HTTP/1.1 client for benchmarks: kept connections, a request written at once, times from the intended send.

A benchmark on the machine that serves must not take its cores: one request costs about 0.1 ms here.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

# Less than a server keeps an idle connection (uvicorn: 5 s).
KEPT_S = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    """0 if the client hung up, or the connection broke."""
    seconds: float
    """From when it should have been sent to the last byte of the answer."""
    late_send_s: float
    """How much later than intended it was sent."""
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)


class Sender:
    """Requests to one host and port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    def request(self, path: str, body: dict[str, Any]) -> bytes:
        """The bytes of a POST."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    async def send(self, request: bytes, due_at: float | None = None, hang_up_s: float | None = None) -> Answer:
        """Send a request and read its answer, or hang up after `hang_up_s`.

        `due_at`, of `time.perf_counter`, is when it should have been sent.
        """
        began = time.perf_counter()
        due_at = began if due_at is None else due_at
        status, headers, body = 0, dict[str, str](), b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            status, headers, body = await self._exchange(request, hang_up_s)
        return Answer(status, time.perf_counter() - due_at, began - due_at, headers, body)

    async def _exchange(self, request: bytes, hang_up_s: float | None) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self._connection()
        is_whole = False
        try:
            writer.write(request)
            async with asyncio.timeout(hang_up_s):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
            is_whole = headers.get("connection") != "close"
            return int(lines[0].split(" ")[1]), headers, body
        finally:
            if is_whole:
                self._idle.append((time.perf_counter(), reader, writer))
            else:
                writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A kept connection that the server has not given up yet, or a new one."""
        while self._idle:
            kept_at, reader, writer = self._idle.pop()
            if time.perf_counter() - kept_at < KEPT_S and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def close(self) -> None:
        """Close the kept connections."""
        for _, _, writer in self._idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()
