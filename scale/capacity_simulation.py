"""One engine and the requests that reach it, event by event, with the service's own scheduler deciding.

    due -> front (one request after the other) -> Scheduler.admit -> packs, seconds = a * tokens + b -> answered

Nothing about packing, order, deadlines or refusals is modelled: `service.scheduler.Scheduler` is pure, so it is run as
it is, under a clock that the simulation moves. What is modelled is time: of a call by the line that was measured, of
the front by a constant a request and a document, of explanations by steps that take the engine when
`service.explaining.turns.Turns` says so. Two kinds of event, the next arrival and the end of the call that runs, need
no library of events.

The scheduler predicts with the very line that the engine follows: a service that has learned. Calls have no spread
but that of their tokens.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.base import PrefixKV
from loadtest.arrivals import due_times
from scale.capacity_profile import Costs, Lengths, Profile, Traffic
from service.cost import CostModel
from service.errors import DeadlineUnmeetableError, OverloadedError
from service.explaining.turns import Turns
from service.scheduler import PackLimits, Scheduler
from service.work import Batch, PrefixBatch, Prompt, ScoreWork, Terms

MAX_WAITING_TOKENS = 262_144
_NO_LOGITS = np.zeros(1, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request."""

    due_s: float
    prefix_tokens: int
    document_tokens: tuple[int, ...]
    """Of the documents that must be computed."""
    num_documents: int
    """Cached ones included."""
    is_prefix_cached: bool = False
    answer_tokens: float = 0.0
    """Of the explanation that follows; 0: none."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of all requests, in their order."""

    seconds: tuple[float, ...]
    """From when each was due; infinite where it was refused or given up."""
    engine_busy_s: float
    num_calls: int
    ended_s: float

    def good_share(self, deadline_s: float, first: int = 0) -> float:
        """Share of the requests from number `first` that were answered within `deadline_s`."""
        counted = self.seconds[first:]
        return sum(seconds <= deadline_s for seconds in counted) / len(counted) if counted else 1.0


class Simulation:
    """One engine; use it once."""

    def __init__(self, costs: Costs, told_deadline_s: float = math.inf) -> None:
        self._costs = costs
        self._told_deadline_s = told_deadline_s
        self._now = 0.0
        cost = CostModel(costs.seconds_per_token, costs.seconds_per_call)
        limits = PackLimits(costs.max_pack_tokens, costs.max_pack_tokens, MAX_WAITING_TOKENS)
        self._scheduler = Scheduler(limits, cost, lambda: self._now)
        self._turns = Turns(costs.explain_share)
        self._answers: deque[float] = deque()
        """Tokens left of each explanation under way."""
        self._requests: dict[ScoreWork, int] = {}
        self._arrivals: Sequence[Arrival] = ()
        self._seconds: list[float] = []
        self._num_prompts = 0
        self._busy_s, self._num_calls = 0.0, 0
        self._taken_s = 0.0
        """Taken from the engine by requests that came since its last call."""

    def run(self, arrivals: Sequence[Arrival]) -> Answered:
        """Serve `arrivals`, in the order of their times, to the last."""
        self._arrivals = arrivals
        self._seconds = [math.inf] * len(arrivals)
        coming = deque(self._through_front())
        while True:
            while coming and coming[0][0] <= self._now:
                self._admit(*coming.popleft())
            call = self._next_call()
            if call is None:
                if not coming:
                    return Answered(tuple(self._seconds), self._busy_s, self._num_calls, self._now)
                self._now = coming[0][0]
                continue
            seconds, finish = call
            ends = self._now + seconds
            while coming and coming[0][0] < ends:  # whoever comes meanwhile is let in or refused at that moment
                self._admit(*coming.popleft())
            self._now = ends
            self._busy_s += seconds
            self._num_calls += 1
            finish()

    def _through_front(self) -> Iterator[tuple[float, int]]:
        """When each request is ready for the engine."""
        free_at = 0.0
        for number, arrival in enumerate(self._arrivals):
            took = self._costs.seconds_per_request + arrival.num_documents * self._costs.seconds_per_document
            free_at = max(free_at, arrival.due_s) + took
            yield free_at, number

    def _admit(self, ready_at: float, number: int) -> None:
        self._now = max(self._now, ready_at)
        arrival = self._arrivals[number]
        if not arrival.document_tokens:
            self._answer(number)
            return
        work = ScoreWork(self._prompts(arrival, number), Terms(deadline=arrival.due_s + self._told_deadline_s))
        cached = {work.prompts[0].prefix_ids: _kv(arrival.prefix_tokens)} if arrival.is_prefix_cached else {}
        try:
            self._scheduler.admit(work, cached)
        except (DeadlineUnmeetableError, OverloadedError):
            return
        self._requests[work] = number
        self._taken_s += self._costs.engine_seconds_per_request

    def _prompts(self, arrival: Arrival, number: int) -> list[Prompt]:
        """Prompts that no other request has; only their lengths matter."""
        prefix = (number, *(0,) * (arrival.prefix_tokens - 1))
        prompts = []
        for tokens in arrival.document_tokens:
            self._num_prompts += 1
            prompts.append(Prompt(prefix, (self._num_prompts, *(0,) * (tokens - 1))))
        return prompts

    def _next_call(self) -> tuple[float, Callable[[], None]] | None:
        """What the engine does next: how long it takes, and what is so when it has; None: nothing."""
        waits = self._scheduler.num_waiting_documents > 0
        if self._answers and self._turns.is_steps_turn(waits):
            return self._costs.seconds_per_answer_token * len(self._answers), lambda: self._stepped(waits)
        batch = self._scheduler.next_batch()
        for work in self._scheduler.pop_expired():
            self._requests.pop(work, None)
        if batch is None:
            return None
        seconds = self._costs.seconds_per_token * batch.num_tokens + self._costs.seconds_per_call + self._taken_s
        self._taken_s = 0.0
        return seconds, lambda: self._computed(batch, seconds)

    def _stepped(self, scores_waited: bool) -> None:
        """Every explanation under way is one token further."""
        self._turns.has_stepped(self._costs.seconds_per_answer_token * len(self._answers), scores_waited)
        self._answers = deque(left - 1.0 for left in self._answers if left > 1.0)

    def _computed(self, batch: Batch, seconds: float) -> None:
        self._turns.has_scored(seconds)
        if isinstance(batch, PrefixBatch):
            for prefix in batch.prefixes:
                prefix.kv = _kv(len(prefix.ids))
            return
        for work in self._scheduler.scored(batch, np.broadcast_to(_NO_LOGITS, (len(batch.documents), 1))):
            number = self._requests.pop(work, None)
            if number is not None:
                self._answer(number)

    def _answer(self, number: int) -> None:
        arrival = self._arrivals[number]
        self._seconds[number] = self._now - arrival.due_s
        if arrival.answer_tokens:
            self._answers.append(arrival.answer_tokens)


def _kv(num_tokens: int) -> PrefixKV:
    return PrefixKV(num_tokens, (), ())


def arrivals_of(traffic: Traffic, rate: float, seconds: float, seed: int) -> list[Arrival]:
    """Poisson arrivals of this traffic at `rate` requests a second, drawn anew for each seed."""
    rng = random.Random(f"{seed}/requests")
    sizes, weights = list(traffic.documents), list(traffic.documents.values())
    found = []
    for due_s in due_times(rate, seconds, "poisson", seed):
        (num_documents,) = rng.choices(sizes, weights)
        computed = sum(rng.random() >= traffic.cached_pairs for _ in range(num_documents))
        arrival = Arrival(
            due_s,
            _length(traffic.query_tokens, rng),
            tuple(_length(traffic.document_tokens, rng) for _ in range(computed)),
            num_documents,
            rng.random() < traffic.cached_queries,
            traffic.answer_tokens if rng.random() < traffic.explain_share else 0.0,
        )
        found.append(arrival)
    return found


def _length(lengths: Lengths, rng: random.Random) -> int:
    drawn = lengths.median * (rng.lognormvariate(0.0, lengths.spread) if lengths.spread else 1.0)
    return min(max(round(drawn), lengths.least), lengths.most)


def served(profile: Profile, rate: float, seconds: float) -> Answered:
    """What one engine makes of the profile's traffic at `rate`."""
    traffic = profile.traffic
    told_s = traffic.deadline_ms / 1000 if traffic.is_deadline_told else math.inf
    return Simulation(profile.engine, told_s).run(arrivals_of(traffic, rate, seconds, profile.seed))
