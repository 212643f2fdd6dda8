"""Which work the engine does next. Pure: no thread, no event loop, no model; the clock is an argument.

Requests are served in the order of `service.waiting`: priority, deadline, arrival; the documents of each in their own
order. `next_batch`:

    1. gives up what cannot be in time any more: it is never computed (`pop_expired` says what);
    2. walks the waiting documents from the front, across requests and queries, as far as one pack reaches, and cuts
       the pack to the size that pays (`service.pack_size`);
    3. if the first one's prefix has no KV yet, returns a PrefixBatch of the missing prefixes met on that walk, so that
       the pack that follows is full, and that one begins with the same request;
    4. else hands over the documents up to the first whose prefix is missing.

No starvation: every TURN_OF_OLDEST-th pack begins with the request that has waited longest, whatever its place. So
a request of P packs is complete after TURN_OF_OLDEST * P packs from when it is the oldest, whoever arrives.

Equal prompts are one WaitingDocument, waiting or running, whichever requests they belong to: it is computed once, at
the place of the most urgent, and goes on when one of them is cancelled. A prefix that several wait for is one
SharedPrefix. A request is admitted whole or not at all.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from engine.base import PrefixKV
from service.cost import CostModel
from service.documents import DocumentPool
from service.errors import DeadlineUnmeetableError, OverloadedError
from service.pack_size import Reach, cut_reach, target_tokens
from service.waiting import Entry, Load, WaitingQueue
from service.work import Batch, DocumentBatch, PrefixBatch, ScoreWork, SharedPrefix, Terms, TokenIds, WaitingDocument

TURN_OF_OLDEST = 8
# So many refusals in a row for the deadline's sake, with no engine call between them, and the next one is let in: a
# prediction that nobody tests any more must not keep everybody out.
MAX_UNTESTED_REFUSALS = 7
# A request is given up only where it would be late even if it took this share of what a promise reckons with.
HOPE = 0.7


@dataclass(frozen=True, slots=True)
class PackLimits:
    """How large one engine call may be, and how much may wait for it."""

    max_pack_tokens: int
    """Tokens of documents, or of prefixes, in one call."""
    max_past_tokens: int
    """Tokens of the distinct prefixes behind one pack of documents: their KV is joined for each call."""
    max_waiting_tokens: int
    """Tokens of waiting documents beyond which a request is refused, unless nothing waits."""


class Scheduler:
    """The waiting work of one engine."""

    def __init__(self, limits: PackLimits, cost: CostModel, clock: Callable[[], float]) -> None:
        self._limits = limits
        self.cost = self._cost = cost
        self._clock = clock
        self._queue = WaitingQueue(cost, limits.max_pack_tokens)
        self._pool = DocumentPool(self._queue)
        self._expired: list[ScoreWork] = []
        self._owed: ScoreWork | None = None
        """Whose prefix the last batch computed: its documents are next."""
        self._num_packs = 0
        self._num_untested_refusals = 0
        self._busy_until = -math.inf
        self.num_reserved_tokens = 0
        """Tokens, as estimated, of requests that are being tokenised: they come on top of what waits."""

    @property
    def num_waiting_tokens(self) -> int:
        """Tokens of distinct documents that wait."""
        return self._pool.num_waiting_tokens

    @property
    def num_waiting_documents(self) -> int:
        """Distinct documents that wait."""
        return self._pool.num_waiting_documents

    def is_awaited(self, prefix_ids: TokenIds) -> bool:
        """Whether a waiting document has this prefix: its KV is there or on its way."""
        return self._pool.is_awaited(prefix_ids)

    def check(self, load: Load, terms: Terms) -> None:
        """Whether a request of this load may come in now.

        Raises:
            OverloadedError: too much waits already.
            DeadlineUnmeetableError: it would be late, or make late what has been admitted before.
        """
        waiting = self.num_waiting_tokens + self.num_reserved_tokens
        excess = waiting + load.num_tokens - self._limits.max_waiting_tokens
        if waiting and load.num_tokens and excess > 0:
            raise OverloadedError(
                f"{waiting} tokens are waiting; this request of {load.num_tokens} is refused",
                self._seconds(excess),
            )
        now = self._clock()
        free_at = max(now, self._busy_until) + self._seconds(self.num_reserved_tokens)
        late = self._queue.seconds_late(load, terms, free_at)
        if late > 0 and self._num_untested_refusals < MAX_UNTESTED_REFUSALS:
            self._num_untested_refusals += 1
            is_alone_too_much = not terms.is_partial and now + self._queue.seconds(load) > terms.deadline
            raise DeadlineUnmeetableError(
                f"{waiting} tokens are waiting; with this request of {load.num_tokens} an answer would be "
                f"{1000 * late:.0f} ms late",
                None if is_alone_too_much else late,
            )

    def _seconds(self, num_tokens: int) -> float:
        return self._cost.seconds(num_tokens, num_tokens / self._limits.max_pack_tokens)

    def admit(self, work: ScoreWork, cached: Mapping[TokenIds, PrefixKV]) -> None:
        """Put a request into the queue; `cached` holds the KV of those of its prefixes that have been kept.

        Raises:
            OverloadedError, DeadlineUnmeetableError: as `check`; nothing was admitted.
        """
        self.check(self._pool.load(work.prompts, cached), work.terms)
        work.timings.admitted_at = self._clock()
        entry = self._queue.new_entry(work)
        entry.is_test = self._num_untested_refusals >= MAX_UNTESTED_REFUSALS
        for index in range(len(work.prompts)):
            self._pool.add(entry, index, cached)
        if entry.num_left:
            self._queue.insert(entry)

    def next_batch(self) -> Batch | None:
        """What the engine should do now; None if nothing waits."""
        now = self._clock()
        reach = self._next_pack(now)
        if not reach:
            self._busy_until = -math.inf
            return None
        batch: Batch
        if reach[0].prefix.kv is None:
            batch = PrefixBatch(self._missing_prefixes(reach))
            prefixes = set(batch.prefixes)
            self._stamp((document for document in reach if document.prefix in prefixes), now)
            self._owed = reach[0].owner
        else:
            batch = DocumentBatch(tuple(takewhile(lambda document: document.prefix.kv is not None, reach)))
            self._stamp(batch.documents, now)
            for document in batch.documents:
                self._pool.take(document)
            self._owed = None
            self._num_packs += 1
        self._busy_until = now + self._cost.seconds(batch.num_tokens)
        self._num_untested_refusals = 0
        return batch

    def scored(self, batch: DocumentBatch, label_logits: NDArray[np.float32]) -> list[ScoreWork]:
        """Give the requests of a pack their label logits [N, K]; returns those that are complete with it."""
        works: dict[ScoreWork, None] = {}
        for document, row in zip(batch.documents, label_logits, strict=True):
            self._pool.done(document)
            for work, indices in document.waiters.items():
                works[work] = None
                for index in indices:
                    work.set_label_logits(index, row)
        return [work for work in works if work.is_scored]

    def failed(self, batch: Batch) -> list[ScoreWork]:
        """Forget the requests that a failed batch was part of, and return them."""
        if isinstance(batch, DocumentBatch):
            for document in batch.documents:
                self._pool.done(document)
            works = list(dict.fromkeys(work for document in batch.documents for work in document.waiters))
        else:
            lost = set(batch.prefixes)
            works = [entry.work for entry in self._queue if any(d.prefix in lost for d in entry.waiting())]
        for work in works:
            self.remove(work)
        return works

    def remove(self, work: ScoreWork) -> None:
        """Forget what still waits of a request that was cancelled, has failed or has expired."""
        entry = self._queue.find(work)
        if entry is not None:
            self._queue.remove(entry)
            for document in entry.waiting():
                self._pool.withdraw(document, work)

    def pop_expired(self) -> list[ScoreWork]:
        """The requests given up since the last call."""
        expired, self._expired = self._expired, []
        return expired

    def _stamp(self, documents: Iterable[WaitingDocument], now: float) -> None:
        for work in {work for document in documents for work in document.waiters}:
            if math.isnan(work.timings.started_at):
                work.timings.started_at = now

    def _next_pack(self, now: float) -> list[WaitingDocument]:
        reach: list[WaitingDocument] = []
        tokens = target_tokens(self._cost, self._limits.max_pack_tokens)
        past = self._limits.max_past_tokens
        prefixes: set[SharedPrefix] = set()
        hopeless: list[ScoreWork] = []
        for document in self._walk(now, hopeless):
            tokens -= len(document.ids)
            if document.prefix not in prefixes:
                prefixes.add(document.prefix)
                past -= len(document.prefix.ids)
            if reach and (tokens < 0 or past < 0):
                break
            reach.append(document)
        for work in hopeless:
            self.remove(work)
        self._expired += hopeless
        return reach[: self._cut(reach, now)] if reach else reach

    def _walk(self, now: float, hopeless: list[ScoreWork]) -> Iterator[WaitingDocument]:
        """Waiting documents in the order they are served, each once; requests that cannot be in time are left out."""
        seen: set[WaitingDocument] = set()
        for entry in self._front_first():
            if self._is_hopeless(entry, now):
                hopeless.append(entry.work)
                continue
            for document in entry.waiting():
                if document not in seen:
                    seen.add(document)
                    yield document

    def _front_first(self) -> Iterator[Entry]:
        front = None if self._owed is None else self._queue.find(self._owed)
        if front is None and len(self._queue) and self._num_packs % TURN_OF_OLDEST == TURN_OF_OLDEST - 1:
            front = self._queue.oldest
        if front is not None:
            yield front
        yield from (entry for entry in self._queue if entry is not front)

    def _is_hopeless(self, entry: Entry, now: float) -> bool:
        deadline = entry.terms.deadline
        if deadline == math.inf or entry.is_test:
            return now >= deadline
        seconds = self._cost.seconds(len(next(entry.waiting()).ids))
        if not entry.terms.is_partial:
            seconds = max(seconds, self._queue.seconds_left(entry))
        return now + HOPE * seconds > deadline

    def _cut(self, reach: Sequence[WaitingDocument], now: float) -> int:
        front = reach[0].owner
        left: dict[ScoreWork, int] = {}
        completed: list[int] = []
        front_completes_at = None
        for place, document in enumerate(reach):
            completed.append(completed[-1] if completed else 0)
            for work in document.waiters:
                entry = self._queue.find(work)
                left[work] = left.get(work, entry.num_left if entry is not None else 0) - 1
                if left[work] == 0:
                    completed[-1] += 1
                    front_completes_at = place if work is front else front_completes_at
        shape = Reach(
            [len(document.ids) for document in reach],
            completed,
            len(self._queue),
            front_completes_at,
            front.terms.is_partial,
            front.terms.deadline - now,
        )
        return cut_reach(shape, self._cost)

    def _missing_prefixes(self, reach: Sequence[WaitingDocument]) -> tuple[SharedPrefix, ...]:
        chosen: list[SharedPrefix] = []
        room = self._limits.max_pack_tokens
        for prefix in dict.fromkeys(document.prefix for document in reach if document.prefix.kv is None):
            room -= len(prefix.ids)
            if chosen and room < 0:
                break
            chosen.append(prefix)
        return tuple(chosen)
