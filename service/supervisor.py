"""Several worker processes on one port, watched over by a process that serves nothing itself.

    parent: binds the socket -> starts N workers -> starts a dead one anew -> SIGTERM: all drain -> exits
    worker: accepts from the shared socket, has its own event loop, engine thread and memory

The socket is shared, not bound N times (SO_REUSEPORT): connections that wait in its queue belong to no worker, so
none is lost when one ends. A worker that cannot start at all, or workers that die again and again, end the whole
service: whoever supervises this process decides then.
"""

import logging
import math
import multiprocessing
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from types import FrameType
from typing import Protocol

logger = logging.getLogger(__name__)

MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0
# How much longer than it promises to a worker may take to end before it is killed.
KILL_AFTER_S = 15.0


class Worker(Protocol):
    """What is needed of a process; `multiprocessing`'s own has it."""

    @property
    def sentinel(self) -> int:
        """Ready to be read once the process has ended."""
        ...

    @property
    def exitcode(self) -> int | None:
        """Its exit status; None while it lives."""
        ...

    @property
    def pid(self) -> int | None:
        """Its number."""
        ...

    def join(self) -> None:
        """Wait for its end."""
        ...

    def terminate(self) -> None:
        """Send it SIGTERM."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


Run = Callable[[int], Worker]


class RestartBudget:
    """Says how often workers may be started anew: MAX_RESTARTS times in RESTART_WINDOW_S."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._restarts: deque[float] = deque()

    def allows(self) -> bool:
        """Take one restart from the budget, if there is one."""
        now = self._clock()
        while self._restarts and self._restarts[0] <= now - RESTART_WINDOW_S:
            self._restarts.popleft()
        if len(self._restarts) >= MAX_RESTARTS:
            return False
        self._restarts.append(now)
        return True


class Supervisor:
    """The parent of the workers. Runs in the main thread, with signals."""

    def __init__(
        self,
        run: Run,
        num_workers: int,
        *,
        stop_within_s: float,
        hopeless: Mapping[int, str],
        failed_status: int,
        kill_after_s: float = KILL_AFTER_S,
    ) -> None:
        """Watch over nobody yet.

        Args:
            run: starts a worker by its number.
            num_workers: how many there are.
            stop_within_s: how long a worker promises to take to end.
            hopeless: exit statuses that would only come again, and why.
            failed_status: what is returned when workers die too often.
            kill_after_s: how much longer than promised one may take.
        """
        self._run = run
        self._kill_after_s = stop_within_s + kill_after_s
        self._hopeless = hopeless
        self._failed_status = failed_status
        self._budget = RestartBudget(time.monotonic)
        self._workers: dict[int, Worker] = {}
        self._num_workers = num_workers
        self._status: int | None = None
        self._kill_at = math.inf
        self._woken, self._wake = socket.socketpair()

    def serve(self) -> int:
        """Run the workers until a signal or until they cannot be kept alive; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        for index in range(self._num_workers):
            self._workers[index] = self._run(index)
        while self._workers:
            timeout = None if math.isinf(self._kill_at) else max(0.0, self._kill_at - time.monotonic())
            found = wait([self._woken, *(worker.sentinel for worker in self._workers.values())], timeout)
            if self._woken in found:
                self._obey(self._woken.recv(64))
            self._bury()
            if time.monotonic() >= self._kill_at:
                logger.error("workers_killed", extra={"fields": {"workers": sorted(self._workers)}})
                for worker in self._workers.values():
                    worker.kill()
                self._kill_at = math.inf
        self._woken.close()
        self._wake.close()
        return self._status or 0

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._wake.send(bytes([number]))

    def _obey(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._stop(0)

    def _stop(self, status: int) -> None:
        if self._status is None:
            self._status = status
            self._kill_at = time.monotonic() + self._kill_after_s
            for worker in self._workers.values():
                worker.terminate()

    def _reload(self) -> None:
        for worker in self._workers.values():
            if worker.pid is not None and worker.exitcode is None:
                os.kill(worker.pid, signal.SIGHUP)

    def _bury(self) -> None:
        """Take away the dead, and start others in their place."""
        for index, worker in list(self._workers.items()):
            status = worker.exitcode
            if status is None:
                continue
            worker.join()
            del self._workers[index]
            if self._status is not None:
                continue
            logger.error("worker_died", extra={"fields": {"worker": index, "status": status}})
            if status in self._hopeless:
                logger.error("giving_up", extra={"fields": {"reason": self._hopeless[status]}})
                self._stop(status)
            elif not self._budget.allows():
                logger.error("giving_up", extra={"fields": {"reason": "workers die again and again"}})
                self._stop(self._failed_status)
            else:
                self._workers[index] = self._run(index)


def bind(host: str, port: int) -> socket.socket:
    """The listening socket of all workers.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(2048)
    return listening


def end_with_parent() -> None:
    """In a worker: stop in order when the parent is gone, whatever ended it. Blocks; run it in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
