"""One decode, many readers, over explanations that a test tells event by event."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry

from service.errors import DeadlineExceededError, EngineFailedError, InternalError, ServiceError
from service.explain_api.handles import Handle, Ticket
from service.explain_api.metrics import ExplainMetrics
from service.explain_api.sharing import Explanations, Reader, Reading
from service.explaining.events import Delta, Done, Event, ExplanationTiming, ExplanationUsage, Grade, Sampling, Step
from tests.fakes import FakeClock

DONE = Done(ExplanationUsage(10, 0, 5, 2, 3), ExplanationTiming(0.1, 0.2, 1.0), resumed=False)
EVENTS: list[Event] = [Grade(3, "perfect"), Delta("wants", "a cable"), Step("wants", "a cable"), DONE]
TICKET = Ticket(Handle(b"artifact", bytes(16), 3, 0), Sampling())
READER = Reader(0.0)


class Teller:
    """An explanation in the hands of a test."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.num_begun = self.num_closed = 0

    async def begin(self) -> AsyncGenerator[Event, None]:
        self.num_begun += 1
        try:
            while (event := await self.queue.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.num_closed += 1

    def tell(self, *events: Event | Exception | None) -> None:
        for event in events:
            self.queue.put_nowait(event)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def explanations(registry: CollectorRegistry) -> Explanations:
    metrics = ExplainMetrics(registry, ["ok", "cancelled", "engine_failed", "internal", "deadline_exceeded"])
    return Explanations(2**20, metrics, FakeClock())


@pytest.fixture
def teller() -> Teller:
    return Teller()


async def rest(reading: Reading) -> list[Event]:
    found: list[Event] = []
    while not found or not isinstance(found[-1], Done):
        told = await reading.next()
        assert told is not None
        found.append(told.event)
    return found


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"relevance_{name}", labels)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_readers_share_one_decode_and_each_sees_all(
    explanations: Explanations, teller: Teller, registry: CollectorRegistry
) -> None:
    with ExitStack() as held:
        first = held.enter_context(explanations.open(TICKET, teller.begin, READER))
        teller.tell(*EVENTS[:2])
        assert (await first.next()).event == EVENTS[0]  # type: ignore[union-attr]
        second = held.enter_context(explanations.open(TICKET, teller.begin, READER))
        assert (first.source, second.source) == ("decoded", "shared")
        teller.tell(*EVENTS[2:], None)
        assert await rest(second) == EVENTS
        assert await rest(first) == EVENTS[1:]  # a slow one misses nothing, and nobody waited for it
    with explanations.open(TICKET, teller.begin, READER) as third:
        assert third.source == "cached"
        assert await rest(third) == EVENTS
    assert teller.num_begun == 1
    assert sample(registry, "explanations_total", outcome="ok") == 3
    assert sample(registry, "explain_token_seconds_sum") == pytest.approx(0.2)
    assert sample(registry, "explain_first_piece_seconds_count") == 3


async def test_the_last_reader_to_leave_ends_the_decode(
    explanations: Explanations, teller: Teller, registry: CollectorRegistry
) -> None:
    with explanations.open(TICKET, teller.begin, READER) as first:
        await asyncio.gather(first.begun(), asyncio.to_thread(teller.tell, EVENTS[0]))
        with explanations.open(TICKET, teller.begin, READER):
            pass
        await settle()
        assert teller.num_closed == 0
    await settle()
    assert (teller.num_closed, explanations.num_under_way) == (1, 0)
    assert sample(registry, "explanations_total", outcome="cancelled") == 2
    with explanations.open(TICKET, teller.begin, READER) as again:
        teller.tell(*EVENTS, None)
        assert await rest(again) == EVENTS
    assert teller.num_begun == 2


async def test_one_that_left_before_it_began_leaves_nothing(explanations: Explanations, teller: Teller) -> None:
    with explanations.open(TICKET, teller.begin, READER):
        pass
    await settle()
    assert (teller.num_begun, explanations.num_under_way, explanations.num_bytes) == (0, 0, 0)


async def test_leaving_at_the_end_does_not_lose_what_was_told(explanations: Explanations, teller: Teller) -> None:
    with explanations.open(TICKET, teller.begin, READER) as reading:
        teller.tell(*EVENTS)
        await rest(reading)
    teller.tell(None)
    await settle()
    with explanations.open(TICKET, teller.begin, READER) as again:
        assert again.source == "cached"


@pytest.mark.parametrize(
    ("failure", "seen"),
    [(EngineFailedError("it failed"), EngineFailedError), (KeyError("a bug"), InternalError), (None, InternalError)],
)
async def test_a_failure_reaches_every_reader_and_is_not_kept(
    explanations: Explanations, teller: Teller, failure: Exception | None, seen: type[ServiceError]
) -> None:
    with (
        explanations.open(TICKET, teller.begin, READER) as first,
        explanations.open(TICKET, teller.begin, READER) as second,
    ):
        teller.tell(EVENTS[0], failure)
        for reading in (first, second):
            await reading.begun()
            with pytest.raises(seen):
                await rest(reading)
            assert reading.outcome == seen.code
    assert explanations.num_under_way == 0
    with explanations.open(TICKET, teller.begin, READER) as again:
        assert again.source == "decoded"


async def test_a_readers_deadline_is_its_own(registry: CollectorRegistry, teller: Teller) -> None:
    clock = FakeClock()
    explanations = Explanations(2**20, ExplainMetrics(registry, ["ok", "deadline_exceeded", "cancelled"]), clock)
    with ExitStack() as held:
        patient = held.enter_context(explanations.open(TICKET, teller.begin, READER))
        with explanations.open(TICKET, teller.begin, Reader(clock.now, clock.now + 5)) as hurried:
            teller.tell(EVENTS[0])
            assert await hurried.next() is not None
            clock.now += 5
            with pytest.raises(DeadlineExceededError):
                await hurried.next()
        teller.tell(*EVENTS[1:], None)
        assert await rest(patient) == EVENTS
    assert sample(registry, "explanations_total", outcome="deadline_exceeded") == 1


async def test_nothing_for_a_while_is_said(explanations: Explanations, teller: Teller) -> None:
    with explanations.open(TICKET, teller.begin, READER) as reading:
        assert await reading.next(0.0) is None
        teller.tell(EVENTS[0])
        await reading.begun()
        assert await reading.next(0.0) is not None


async def test_what_is_kept_is_bounded(registry: CollectorRegistry) -> None:
    metrics = ExplainMetrics(registry, ["ok", "cancelled"])
    explanations = Explanations(10_000, metrics, FakeClock())
    tickets = [Ticket(Handle(b"artifact", bytes([n]) * 16, 3, 0), Sampling()) for n in range(50)]
    for ticket in tickets:
        teller = Teller()
        with explanations.open(ticket, teller.begin, READER) as reading:
            teller.tell(*EVENTS, None)
            await rest(reading)
            await settle()
        assert explanations.num_bytes <= 10_000
    with explanations.open(tickets[-1], Teller().begin, READER) as reading:
        assert reading.source == "cached"
    with explanations.open(tickets[0], Teller().begin, READER) as reading:
        assert reading.source == "decoded"


async def test_checks_tell_what_was_said_but_not_what_it_cost(explanations: Explanations) -> None:
    checks = []
    for sampling, events in (
        (Sampling(1), EVENTS),
        (Sampling(2), [*EVENTS[:-1], Done(DONE.usage, ExplanationTiming(9, 9, 9), resumed=True)]),
        (Sampling(3), [EVENTS[0], Delta("wants", "a bolt"), *EVENTS[2:]]),
    ):
        teller = Teller()
        with explanations.open(Ticket(TICKET.handle, sampling), teller.begin, READER) as reading:
            teller.tell(*events, None)
            checks.append([told.check for told in [await reading.next() for _ in events] if told is not None])
    assert checks[0] == checks[1]
    assert checks[0][0] == checks[2][0]
    assert all(own != other for own, other in zip(checks[0][1:], checks[2][1:], strict=True))
