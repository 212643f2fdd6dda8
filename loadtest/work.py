"""One sender process: takes jobs from the coordinator, sends, and hands back its tallies.

    coordinator -> Job        what to send; the process makes ready and says so
    coordinator -> start      a moment of the clock that all processes share; every due time counts from it
    process -> Seen           twice a second: how far it is
    process -> Done           the tallies, warm-up apart

One process costs the machine well under a millisecond a request; several, so that a busy one does not delay the
others' requests. Each reports how late it sent (`late_send`): if that is no longer small, the client is what was
measured.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import orjson
import uvloop

from loadtest.mix import Request, Requests
from loadtest.plan import Plan
from loadtest.sender import Sender
from loadtest.tally import Tally

SEEN_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a run asks, and what its texts are marked with."""

    url: str
    headers: Mapping[str, str]
    mark: str


@dataclass(frozen=True, slots=True)
class Job:
    """One load, or this process's part of it."""

    first_number: int
    step: int
    """Requests of this process are numbered `first_number`, + `step`, + 2 `step`, …"""
    warm_up_s: float
    seconds: float
    due: tuple[float, ...] | None = None
    """Seconds from the start; None is a closed loop."""
    num_clients: int = 0
    has_deadlines: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a process is."""

    num_sent: int
    num_in_time: int
    num_under_way: int


@dataclass(frozen=True, slots=True)
class Done:
    """What a process has measured."""

    warm_up: Tally
    measured: Tally
    ended_s: float
    """From the start to its last answer."""


@dataclass(slots=True)
class _Loop:
    """State of one job."""

    plan: Plan
    job: Job
    sender: Sender
    requests: Requests
    start_at: float
    warm_up: Tally = field(default_factory=Tally)
    measured: Tally = field(default_factory=Tally)
    num_under_way: int = 0

    def tally_at(self, due_s: float) -> Tally:
        return self.warm_up if due_s < self.job.warm_up_s else self.measured

    def _request(self, number: int) -> Request:
        return self.requests.request(number, self.job.has_deadlines)

    async def send(self, request: Request, due_at: float) -> None:
        """Send one request, and have its first result explained if the plan says so."""
        tally = self.tally_at(due_at - self.start_at)
        self.num_under_way += 1
        try:
            answer = await self.sender.post(request.path, request.content, due_at, request.hang_up_s)
            outcome = tally.add(request, answer, self.plan.slo_ms / 1000)
            if request.is_explained and outcome == "ok":
                await self._explain(tally, answer.json())
        finally:
            self.num_under_way -= 1

    async def _explain(self, tally: Tally, scored: Any) -> None:
        content = explain_body(scored)
        if content is None:
            tally.explained["no handle"] += 1
            return
        answer = await self.sender.stream(self.plan.mix.explain_path, content, is_piece)
        tally.add_explained(answer, is_complete(answer.body))

    async def open_loop(self, due: Sequence[float]) -> None:
        """Send what is due when it is due, whatever has come back."""
        tasks: set[asyncio.Task[None]] = set()
        for place, due_s in enumerate(due):
            request = self._request(self.job.first_number + place * self.job.step)
            due_at = self.start_at + due_s
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            if self.num_under_way >= self.plan.senders.max_under_way:
                self.tally_at(due_s).outcomes["unsent"] += 1
                continue
            task = asyncio.create_task(self.send(request, due_at))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def closed_loop(self) -> None:
        """Clients that send when they have their answer."""
        numbers = iter(range(self.job.first_number, 2**62, self.job.step))
        end_at = self.start_at + self.job.warm_up_s + self.job.seconds
        await asyncio.sleep(max(0.0, self.start_at - time.monotonic()))

        async def client() -> None:
            while time.monotonic() < end_at:
                await self.send(self._request(next(numbers)), time.monotonic())

        await asyncio.gather(*(client() for _ in range(self.job.num_clients)))


def explain_body(scored: Any) -> bytes | None:
    """The body that asks why the best result got its grade; None where the answer has no handle."""
    results = scored.get("results") if isinstance(scored, dict) else None
    best = max(results, key=lambda result: result.get("score") or 0.0) if results else {}
    handle = best.get("handle")
    return None if handle is None else orjson.dumps({"handle": handle})


def is_piece(event: Sequence[bytes]) -> bool:
    """Whether an event is a piece of the explanation's text."""
    return b"event: delta" in event


def is_complete(stream: bytes) -> bool:
    """Whether a stream came to its end."""
    return b"event: done\n" in stream


def serve_jobs(connection: Connection, plan: Plan, target: Target) -> None:
    """The process: do jobs until there is none."""
    requests = Requests(plan.mix, plan.slo_ms, plan.seed, target.mark)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _serve_jobs(connection, plan, Sender(target.url, target.headers, plan.senders.give_up_seconds), requests)
        )


async def _serve_jobs(connection: Connection, plan: Plan, sender: Sender, requests: Requests) -> None:
    async with sender:
        while True:
            job: Job | None = await asyncio.to_thread(connection.recv)
            if job is None:
                return
            connection.send("ready")
            start_at: float = await asyncio.to_thread(connection.recv)
            loop = _Loop(plan, job, sender, requests, start_at)
            watching = asyncio.create_task(_tell(loop, connection.send))
            await (loop.closed_loop() if job.due is None else loop.open_loop(job.due))
            watching.cancel()
            connection.send(Done(loop.warm_up, loop.measured, time.monotonic() - start_at))


async def _tell(loop: _Loop, send: Callable[[Seen], None]) -> None:
    while True:
        await asyncio.sleep(SEEN_EVERY_S)
        both = (loop.warm_up, loop.measured)
        send(Seen(sum(one.num_sent for one in both), sum(one.num_in_time for one in both), loop.num_under_way))
