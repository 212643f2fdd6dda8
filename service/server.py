"""The HTTP server's end, and what it does at a signal.

SIGTERM, SIGINT   `on_stop` at once, then after `delay_s` it listens no longer; what is under way is answered
                  within `drain_s`, what is not by then is cut off
a second SIGINT   at once
SIGHUP            `on_hangup`
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

# Longer than load balancers and clients keep an idle connection (60 s is common): whoever closes first must not be the
# one that does not know whether a request is on its way.
KEEP_ALIVE_S = 75
# After `on_cut` every request has its answer, an error if nothing else; this is for one that does not go out.
LAST_ANSWERS_S = 5


@dataclass(frozen=True, slots=True)
class Signals:
    """What to do when, on the event loop's thread."""

    on_stop: Callable[[], None]
    on_cut: Callable[[], None]
    on_hangup: Callable[[], None]


class Server(uvicorn.Server):
    """uvicorn, told when to stop."""

    def __init__(self, config: uvicorn.Config, signals: Signals, *, delay_s: float, drain_s: float) -> None:
        super().__init__(config)
        self._signals = signals
        self._delay_s = delay_s
        self._drain_s = drain_s
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Begin to stop; nothing is raised again afterwards, so the exit status is the caller's to choose."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._delay_s
            self._signals.on_stop()
        elif sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen to SIGHUP too, from before the first request on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._signals.on_hangup)
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Called every 100 ms: whether to stop listening."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no longer, answer what is under way."""
        cut = asyncio.get_running_loop().call_later(self._drain_s, self._signals.on_cut)
        await super().shutdown(sockets)
        cut.cancel()


def server_config(app: ASGIApp, host: str, port: int, drain_s: int) -> uvicorn.Config:
    """uvicorn as it serves here; logging is set up by the process, a line per request written by the app."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=drain_s + LAST_ANSWERS_S,
    )
