"""Watches the event loop from a thread: how late it runs what it is given, and whether it still turns.

    every interval: hand the loop a beat -> it runs late by the lag -> observed on the loop
                    not run within `stall_s` -> the loop's stack is logged, once
                    not run within `limit_s` -> `on_limit`, once, and the watch is over

A blocked loop cannot answer /livez, so a probe that times out sees it too; the watchdog says where it hangs.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """When the watchdog does what, in seconds."""

    interval_s: float = 0.1
    stall_s: float = 1.0
    """A beat this late is a stall."""
    limit_s: float | None = None
    """A beat this late is the end; None: no beat is."""


class Watchdog:
    """One thread for one event loop."""

    def __init__(
        self,
        times: WatchTimes,
        observe_lag: Callable[[float], None],
        on_stall: Callable[[], None],
        on_limit: Callable[[float], None],
    ) -> None:
        """`observe_lag` runs on the loop, the other two in the watchdog's thread."""
        self._times = times
        self._observe_lag = observe_lag
        self._on_stall = on_stall
        self._on_limit = on_limit
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch the running loop."""
        arguments = (asyncio.get_running_loop(), threading.get_ident())
        self._thread = threading.Thread(target=self._run, args=arguments, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watch; does not wait for the thread, which may be waiting for the loop."""
        self._stopped.set()

    def _run(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        while not self._stopped.wait(self._times.interval_s):
            sent_at = time.monotonic()
            beat = threading.Event()

            def run_beat(sent_at: float = sent_at, beat: threading.Event = beat) -> None:
                self._observe_lag(time.monotonic() - sent_at)
                beat.set()

            try:
                loop.call_soon_threadsafe(run_beat)
            except RuntimeError:  # the loop has been closed
                return
            if not self._is_met(beat, sent_at, loop_thread):
                return

    def _is_met(self, beat: threading.Event, sent_at: float, loop_thread: int) -> bool:
        """Wait for a beat; False once the watch is over."""
        has_told = False
        while not beat.wait(self._times.stall_s):
            if self._stopped.is_set():
                return False
            late_s = time.monotonic() - sent_at
            if not has_told:
                has_told = True
                frame = sys._current_frames().get(loop_thread)
                stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
                logger.error("loop_stalled", extra={"fields": {"late_s": round(late_s, 3), "stack": stack}})
                self._on_stall()
            if self._times.limit_s is not None and late_s >= self._times.limit_s:
                self._on_limit(late_s)
                return False
        return True
