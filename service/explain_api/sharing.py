"""One decode for all who want the same explanation, and none where it has been told before.

    open(key) -> held: told at once
              -> under way: followed from its beginning
              -> neither: begun; a task pulls its events, readers follow at their own pace

What has been told is a list that the task appends to and readers walk along, so a slow reader holds up neither the
task nor another reader; the list is bounded, since an explanation is. When the last reader leaves, the task is
cancelled, and the decode with it. A finished explanation is kept, least recently used out first, bounded in bytes.
"""

import asyncio
import logging
import math
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from service.errors import DeadlineExceededError, InternalError, ServiceError
from service.explain_api.handles import Ticket
from service.explain_api.metrics import ExplainMetrics
from service.explaining.events import Delta, Done, Event, Step

logger = logging.getLogger(__name__)

# What a told event costs in Python beside its text.
EVENT_BYTES = 200

Source = Literal["decoded", "shared", "cached"]
Begin = Callable[[], AsyncGenerator[Event, None]]


@dataclass(frozen=True, slots=True)
class Told:
    """An event, its place, and a checksum of all that was said up to it."""

    event: Event
    place: int
    check: int


@dataclass(slots=True)
class _Telling:
    """One explanation as far as it has been told."""

    told: list[Told] = field(default_factory=list)
    error: ServiceError | None = None
    num_readers: int = 0
    num_bytes: int = 0
    task: "asyncio.Task[None] | None" = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_finished(self) -> bool:
        return bool(self.told) and isinstance(self.told[-1].event, Done)

    def tell(self, event: Event) -> None:
        check = self.told[-1].check if self.told else 0
        if not isinstance(event, Done):  # what it cost differs from time to time, what it says does not
            check = zlib.crc32(repr(event).encode(), check)
        self.told.append(Told(event, len(self.told), check))
        self.num_bytes += EVENT_BYTES + (len(repr(event)) if isinstance(event, Delta | Step) else 0)
        self._wake()

    def fail(self, error: ServiceError) -> None:
        self.error = error
        self._wake()

    def _wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Reader:
    """Who wants an explanation; times are those of the clock, in seconds."""

    asked_at: float
    deadline: float = math.inf
    """Until when it is of use."""


class Reading:
    """One reader's place in an explanation."""

    def __init__(
        self, telling: _Telling, source: Source, reader: Reader, metrics: ExplainMetrics, clock: Callable[[], float]
    ) -> None:
        self.source: Source = source
        self.outcome = "cancelled"
        """How it ended for this reader: `ok`, an error's code, or, if nothing did before it left, `cancelled`."""
        self._telling = telling
        self._place = 0
        self._reader = reader
        self._metrics = metrics
        self._clock = clock
        self._has_piece = False

    async def begun(self) -> None:
        """Return once there is a first event, which `next` gives.

        Raises:
            ServiceError: there will be none.
        """
        await self._reach(0, math.inf)

    async def next(self, timeout_s: float = math.inf) -> Told | None:
        """The next event, `Done` at last; None if there is none within `timeout_s`.

        Raises:
            ServiceError: it has ended otherwise, or the reader's deadline has passed.
        """
        if not await self._reach(self._place, timeout_s):
            return None
        told = self._telling.told[self._place]
        self._place += 1
        if isinstance(told.event, Done):
            self.outcome = "ok"
        elif isinstance(told.event, Delta | Step) and not self._has_piece:
            self._has_piece = True
            self._metrics.observe_first_piece(self._clock() - self._reader.asked_at)
        return told

    async def _reach(self, place: int, timeout_s: float) -> bool:
        """Whether the event at `place` has been told within `timeout_s`."""
        end = self._clock() + timeout_s
        while place >= len(self._telling.told):
            error, now = self._telling.error, self._clock()
            if error is None and now >= self._reader.deadline:
                error = DeadlineExceededError("the deadline passed before the explanation had ended")
            if error is not None:
                self.outcome = error.code
                raise error.copy()
            if now >= end:
                return False
            await _wait(self._telling.news, min(end, self._reader.deadline) - now)
        return True


async def _wait(news: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(None if timeout_s == math.inf else timeout_s):
            await news.wait()
    except TimeoutError:
        pass


class Explanations:
    """Those of one process: under way, and finished. The event loop owns them."""

    def __init__(self, max_bytes: int, metrics: ExplainMetrics, clock: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._clock = clock
        self._under_way: dict[Ticket, _Telling] = {}
        self._finished: OrderedDict[Ticket, _Telling] = OrderedDict()
        self.num_bytes = 0
        """Of the finished ones."""

    @property
    def num_under_way(self) -> int:
        """Explanations that are being decoded, or wait to be."""
        return len(self._under_way)

    @contextmanager
    def open(self, ticket: Ticket, begin: Begin, reader: Reader) -> Iterator[Reading]:
        """Read the explanation that `ticket` names; where it is neither held nor under way, `begin` tells it."""
        ticket = ticket.canonical()
        telling, source = self._find(ticket, begin)
        self._metrics.count_source(source)
        telling.num_readers += 1
        reading = Reading(telling, source, reader, self._metrics, self._clock)
        try:
            yield reading
        finally:
            self._metrics.count_outcome(reading.outcome)
            telling.num_readers -= 1
            if telling.num_readers == 0 and telling.task is not None and not telling.is_finished:
                self._forget(ticket, telling)
                telling.task.cancel()

    def _find(self, ticket: Ticket, begin: Begin) -> tuple[_Telling, Source]:
        held = self._finished.get(ticket)
        if held is not None:
            self._finished.move_to_end(ticket)
            return held, "cached"
        under_way = self._under_way.get(ticket)
        if under_way is not None:
            return under_way, "shared"
        telling = self._under_way[ticket] = _Telling()
        telling.task = asyncio.create_task(self._tell(ticket, telling, begin))
        return telling, "decoded"

    async def _tell(self, ticket: Ticket, telling: _Telling, begin: Begin) -> None:
        try:
            async with aclosing(begin()) as events:
                async for event in events:
                    telling.tell(event)
                    if isinstance(event, Done):
                        self._metrics.observe_decoded(event)
            if not telling.is_finished:
                raise InternalError("the explanation ended without its end")
        except ServiceError as error:
            telling.fail(error)
        except Exception as error:  # nobody may be left waiting
            logger.error("explanation_failed", exc_info=error)
            telling.fail(InternalError("an internal error"))
        finally:
            self._forget(ticket, telling)
        if telling.is_finished:
            self._keep(ticket, telling)

    def _forget(self, ticket: Ticket, telling: _Telling) -> None:
        """No reader joins it any more."""
        if self._under_way.get(ticket) is telling:
            del self._under_way[ticket]

    def _keep(self, ticket: Ticket, telling: _Telling) -> None:
        replaced = self._finished.pop(ticket, None)
        if replaced is not None:
            self.num_bytes -= replaced.num_bytes
        self._finished[ticket] = telling
        self.num_bytes += telling.num_bytes
        while self.num_bytes > self._max_bytes:
            _, evicted = self._finished.popitem(last=False)
            self.num_bytes -= evicted.num_bytes
