"""A plan from its first phase to its last: the figures of every load, and where the service bends."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from loadtest.arrivals import due_times
from loadtest.figures import level_figures, max_late_ms
from loadtest.knee import Level, knee_of, next_rate
from loadtest.mix import Requests
from loadtest.plan import Closed, Open, Plan, Ramp, rate_of
from loadtest.processes import Outcome, SenderProcesses
from loadtest.scrape import Metrics
from loadtest.sender import LOST, Answer, Sender
from loadtest.work import Seen, Target


class Progress(Protocol):
    """Whoever watches a run."""

    def begin(self, title: str, seconds: float) -> None:
        """A load begins that lasts about so long."""

    def seen(self, seen: Seen) -> None:
        """How far it is."""

    def end(self, figures: Mapping[str, Any]) -> None:
        """Its figures."""


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan, url: str, headers: Mapping[str, str], progress: Progress) -> None:
        self._plan = plan
        self._target = Target(url, dict(headers), f"{secrets.token_hex(2)}-")
        self._progress = progress
        self._metrics = Metrics(url, headers)
        self._found: dict[str, float] = {}
        self._levels: list[dict[str, Any]] = []

    def measure(self) -> dict[str, Any]:
        """Run every phase.

        Raises:
            RuntimeError: the service does not answer a request of the plan, a closed loop or a ramp found no rate that
                a later phase is a share of, or a sender died.
        """
        self._check()
        began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with SenderProcesses(self._plan, self._target) as senders:
            for number, phase in enumerate(self._plan.phases):
                name = phase.name or f"{phase.kind} {number + 1}"
                if isinstance(phase, Closed):
                    self._closed(senders, phase, name)
                elif isinstance(phase, Open):
                    self._open(senders, phase, name, self._rate(phase.rate), self._plan.seed + 1000 * number)
                else:
                    self._ramp(senders, phase, name, self._plan.seed + 1000 * number)
        artifact = self._metrics.read()
        return {
            "plan": _shown(self._plan),
            "began": began,
            "artifact": {} if artifact is None else artifact.labels_of("relevance_artifact_info"),
            "slo_ms": self._plan.slo_ms,
            "closed_rps": self._found.get("closed"),
            "knee": self._knee(),
            "levels": self._levels,
        }

    def _check(self) -> None:
        """Ask once: a wrong address or key should not take minutes to show. Then what is to be in the cache."""
        self._progress.begin("first requests", 0.0)
        answer = asyncio.run(_ask_first(self._plan, self._target))
        if answer.status == LOST:
            raise RuntimeError(f"nothing answers at {self._target.url}")
        if answer.status not in (200, 429):
            raise RuntimeError(f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")

    def _rate(self, value: float | str) -> float:
        try:
            return rate_of(value, self._found)
        except KeyError as error:
            raise RuntimeError(f"{value!r}: nothing was found to take a share of") from error

    def _closed(self, senders: SenderProcesses, phase: Closed, name: str) -> None:
        figures = self._load(
            name,
            phase,
            None,
            lambda: senders.closed_loop(phase, self._progress.seen),
        )
        figures["clients"] = phase.clients
        if figures["outcomes"].get("ok"):
            self._found["closed"] = figures["outcomes"]["ok"] / phase.seconds

    def _open(self, senders: SenderProcesses, phase: Open | Ramp, name: str, rate: float, seed: int) -> dict[str, Any]:
        due = due_times(rate, phase.warm_up_seconds + phase.seconds, phase.arrivals, seed)
        return self._load(
            name,
            phase,
            rate,
            lambda: senders.open_loop(due, phase, self._progress.seen),
        )

    def _ramp(self, senders: SenderProcesses, phase: Ramp, name: str, seed: int) -> None:
        tried: list[Level] = []
        start = self._rate(phase.start)
        while (rate := next_rate(tried, start, phase.factor, phase.refine, phase.max_levels)) is not None:
            figures = self._open(senders, phase, f"{name}: level {len(tried) + 1}", rate, seed + len(tried))
            tried.append(Level(rate, (figures["good_share"] or 0.0) >= phase.good_share))
            figures["held"] = tried[-1].held
        knee = knee_of(tried)
        if knee is not None:
            self._found["knee"] = knee

    def _load(
        self, name: str, phase: Closed | Open | Ramp, rate: float | None, send: Callable[[], Outcome]
    ) -> dict[str, Any]:
        seconds = phase.warm_up_seconds + phase.seconds
        self._progress.begin(name if rate is None else f"{name}, {rate:.1f} requests/s", seconds)
        before = self._metrics.read()
        outcome = send()
        num_answered = outcome.warm_up.num_sent + outcome.measured.num_sent
        num_answered -= outcome.warm_up.outcomes["unsent"] + outcome.measured.outcomes["unsent"]
        after = self._metrics.read_settled(before, num_answered)
        figures = {"name": name, "kind": phase.kind, "seconds": phase.seconds, "warm_up_s": phase.warm_up_seconds}
        told = None if before is None or after is None else after.since(before)
        figures |= level_figures(outcome, phase.seconds, rate, max_late_ms(self._plan.slo_ms), told)
        if isinstance(phase, Open):
            figures["asked"] = phase.rate
        self._levels.append(figures)
        self._progress.end(figures)
        return figures

    def _knee(self) -> dict[str, float] | None:
        if "knee" not in self._found:
            return None
        rate = self._found["knee"]
        at = next(level for level in self._levels if level.get("held") and abs(level["offered_rps"] - rate) < 1e-3)
        return {key: at[key] for key in ("offered_rps", "goodput_rps", "documents_per_s", "good_share")}


async def _ask_first(plan: Plan, target: Target) -> Answer:
    requests = Requests(plan.mix, plan.slo_ms, plan.seed, target.mark)
    first = requests.request(-1)
    async with Sender(target.url, target.headers, plan.senders.give_up_seconds) as sender:
        answer = await sender.post(first.path, first.content)
        if answer.status == 200:
            for request in requests.repeated():
                await sender.post(request.path, request.content)
    return answer


def _shown(plan: Plan) -> dict[str, Any]:
    """The plan as data, without the folder that its file of pairs lies in."""
    shown = plan.model_dump(mode="json")
    if plan.mix.pairs is not None:
        shown["mix"]["pairs"] = "/".join(plan.mix.pairs.parts[-2:])
    return shown
