"""Who watches over the workers: the dead are replaced, the hopeless and the endless are not, all end together."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from service.supervisor import MAX_RESTARTS, RESTART_WINDOW_S, RestartBudget, Supervisor
from tests.fakes import FakeClock

HOPELESS, FAILED = 2, 4


def test_a_few_restarts_are_allowed_and_more_once_these_are_past() -> None:
    clock = FakeClock()
    budget = RestartBudget(clock)
    assert [budget.allows() for _ in range(MAX_RESTARTS + 1)] == [True] * MAX_RESTARTS + [False]
    clock.now += RESTART_WINDOW_S - 0.1
    assert not budget.allows()
    clock.now += 0.2
    assert budget.allows()


class FakeWorker:
    """A process that ends when told to, with any status; `obeys` says whether SIGTERM ends it."""

    def __init__(self, index: int, obeys: bool = True) -> None:
        self.index = index
        self.pid: int | None = None
        self.exitcode: int | None = None
        self.was_killed = False
        self._obeys = obeys
        self.sentinel, self._end = os.pipe()

    def end(self, status: int) -> None:
        if self.exitcode is None:
            self.exitcode = status
            os.close(self._end)

    def join(self) -> None:
        os.close(self.sentinel)

    def terminate(self) -> None:
        if self._obeys:
            self.end(0)

    def kill(self) -> None:
        self.was_killed = True
        self.end(-9)


class Service:
    """A supervisor over two fake workers, and what became of it."""

    def __init__(self, *, obeys: bool = True, kill_after_s: float = 15.0) -> None:
        self.started: list[FakeWorker] = []
        self.obeys = obeys
        self.supervisor = Supervisor(
            self._run,
            2,
            stop_within_s=0.0,
            hopeless={HOPELESS: "no artifact"},
            failed_status=FAILED,
            kill_after_s=kill_after_s,
        )

    def _run(self, index: int) -> FakeWorker:
        worker = FakeWorker(index, self.obeys)
        self.started.append(worker)
        self.on_start(worker)
        return worker

    def on_start(self, worker: FakeWorker) -> None:
        """What happens to each worker; replaced by the tests."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def end_soon(worker: FakeWorker, status: int) -> None:
    threading.Timer(0.01, worker.end, [status]).start()


def test_a_dead_worker_is_replaced_and_a_signal_ends_all() -> None:
    service = Service()

    def on_start(worker: FakeWorker) -> None:
        if len(service.started) == 2:
            end_soon(service.started[1], -9)
        if len(service.started) == 3:
            threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGTERM]).start()

    service.on_start = on_start  # type: ignore[method-assign]
    assert service.supervisor.serve() == 0
    assert [worker.index for worker in service.started] == [0, 1, 1]
    assert [worker.exitcode for worker in service.started] == [0, -9, 0]


def test_a_worker_that_cannot_start_ends_the_service_with_its_status() -> None:
    service = Service()

    def on_start(worker: FakeWorker) -> None:
        if worker.index == 1:
            end_soon(worker, HOPELESS)

    service.on_start = on_start  # type: ignore[method-assign]
    assert service.supervisor.serve() == HOPELESS
    assert len(service.started) == 2


def test_workers_that_die_again_and_again_end_the_service() -> None:
    service = Service()
    service.on_start = lambda worker: end_soon(worker, 4)  # type: ignore[method-assign]
    assert service.supervisor.serve() == FAILED
    assert 2 + MAX_RESTARTS <= len(service.started) <= 3 + MAX_RESTARTS


def test_a_worker_that_does_not_end_is_killed() -> None:
    service = Service(obeys=False, kill_after_s=0.05)

    def on_start(worker: FakeWorker) -> None:
        if worker.index == 1:
            threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGINT]).start()

    service.on_start = on_start  # type: ignore[method-assign]
    assert service.supervisor.serve() == 0
    assert all(worker.was_killed for worker in service.started)
