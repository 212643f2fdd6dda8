"""The sender processes of a run: started once, given a load each time, and their tallies put together."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self

from loadtest.plan import Closed, Open, Plan, Ramp
from loadtest.tally import Tally, merged
from loadtest.work import Done, Job, Seen, Target, serve_jobs

# From when all are ready to the first due time: the message must reach the last of them.
HEAD_START_S = 0.2


class SenderDiedError(RuntimeError):
    """A sender process ended before its job was done; what it raised stands above on stderr."""


class Outcome:
    """What the processes measured of one load."""

    def __init__(self, parts: Sequence[Done]) -> None:
        self.warm_up: Tally = merged(part.warm_up for part in parts)
        self.measured: Tally = merged(part.measured for part in parts)
        self.late_ms_by_process = [part.measured.times_of("late_send").percentile_ms(99.0) for part in parts]
        self.ended_s = max(part.ended_s for part in parts)


class SenderProcesses:
    """`with SenderProcesses(...) as senders: senders.run(...)`."""

    def __init__(self, plan: Plan, target: Target) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection[Any, Any]] = []
        for number in range(plan.senders.processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=serve_jobs, args=(theirs, plan, target), name=f"sender {number}", daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)
        self._next_number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, process in zip(self._connections, self._processes, strict=True):
            if error is None:
                connection.send(None)
            else:
                process.terminate()
            process.join()
            connection.close()

    def open_loop(self, due: Sequence[float], phase: Open | Ramp, on_seen: Callable[[Seen], None]) -> Outcome:
        """Send a request at each of `due`, seconds from the start, dealt out one by one."""
        num = len(self._connections)
        window = (phase.warm_up_seconds, phase.seconds)
        parts = [Job(self._next_number + n, num, *window, due=tuple(due[n::num])) for n in range(num)]
        self._next_number += len(due)
        return self._run(parts, on_seen)

    def closed_loop(self, phase: Closed, on_seen: Callable[[Seen], None]) -> Outcome:
        """Let the clients ask one thing after the other."""
        num = len(self._connections)
        window = (phase.warm_up_seconds, phase.seconds)
        clients = [phase.clients // num + (n < phase.clients % num) for n in range(num)]
        parts = [
            Job(self._next_number + n, num, *window, num_clients=clients[n], has_deadlines=phase.deadlines)
            for n in range(num)
        ]
        outcome = self._run(parts, on_seen)
        # Numbers are dealt out in turn, so the busiest process has used the highest.
        self._next_number += num * (outcome.warm_up.num_sent + outcome.measured.num_sent + num)
        return outcome

    def _run(self, parts: Sequence[Job], on_seen: Callable[[Seen], None]) -> Outcome:
        for connection, part in zip(self._connections, parts, strict=True):
            connection.send(part)
        for connection in self._connections:
            self._receive(connection)
        start_at = time.monotonic() + HEAD_START_S
        for connection in self._connections:
            connection.send(start_at)
        done: dict[int, Done] = {}
        seen: dict[int, Seen] = {}
        while len(done) < len(parts):
            for ready in wait([c for n, c in enumerate(self._connections) if n not in done]):
                number = next(n for n, c in enumerate(self._connections) if c is ready)
                message = self._receive(self._connections[number])
                if isinstance(message, Done):
                    done[number] = message
                    continue
                seen[number] = message
                on_seen(_together(list(seen.values())))
        return Outcome([done[n] for n in range(len(parts))])

    def _receive(self, connection: "Connection[Any, Any]") -> Any:
        try:
            return connection.recv()
        except (EOFError, ConnectionError) as error:
            raise SenderDiedError("a sender process ended before its job was done") from error


def _together(seen: Sequence[Seen]) -> Seen:
    return Seen(
        sum(one.num_sent for one in seen),
        sum(one.num_in_time for one in seen),
        sum(one.num_under_way for one in seen),
    )
