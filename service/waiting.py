"""The queue: what waits, in the order it is served, and when it will be done. Pure.

Order is (priority, deadline, arrival); a request without a deadline comes after those of its priority that have one.

The forecast walks that order from the end of the running call: each request takes seconds = a * tokens + b * packs,
and leaves at its deadline at the latest. It answers two questions of a request that arrives: is it done by
its deadline, and are those behind it, of its own priority, that would have been in time without it.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.cost import CostModel
from service.work import ScoreWork, SharedPrefix, Terms, WaitingDocument

# A prediction is right on average; a promise must hold more often than every second time.
CAUTION = 1.2

Key = tuple[int, float, int]


@dataclass(frozen=True, slots=True)
class Load:
    """What a request brings."""

    num_tokens: int
    """Document tokens that nobody else waits for."""
    num_prefix_tokens: int = 0
    """Tokens of prefixes that must be computed first."""
    first_tokens: int = 1
    """Of its first document."""


@dataclass(slots=True, eq=False)
class Entry:
    """One request in the queue."""

    work: ScoreWork
    key: Key
    documents: deque[WaitingDocument] = field(default_factory=deque)
    """Its documents in their order; some may have been taken."""
    prefixes: list[SharedPrefix] = field(default_factory=list)
    """Prefixes it was the first to need."""
    num_tokens: int = 0
    """Tokens of the waiting documents it owns."""
    num_left: int = 0
    """Its waiting documents, owned or not."""
    is_test: bool = False
    """Let in to test predictions: nothing but its deadline itself ends it."""

    @property
    def terms(self) -> Terms:
        """Its deadline and priority."""
        return self.work.terms

    def append(self, document: WaitingDocument) -> None:
        """One more document, behind the others."""
        self.documents.append(document)
        self.num_left += 1

    def waiting(self) -> Iterator[WaitingDocument]:
        """Its documents that have not been taken, in order."""
        while self.documents and self.documents[0].is_taken:
            self.documents.popleft()
        return (document for document in self.documents if not document.is_taken)


class WaitingQueue:
    """The waiting requests of one engine in the order they are served."""

    def __init__(self, cost: CostModel, max_pack_tokens: int) -> None:
        self._cost = cost
        self._max_pack_tokens = max_pack_tokens
        self._entries: list[Entry] = []
        self._of: dict[ScoreWork, Entry] = {}
        self._num_arrived = 0
        self._num_deadlines = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def oldest(self) -> Entry:
        """The one that has waited longest; there must be one."""
        return next(iter(self._of.values()))

    def find(self, work: ScoreWork) -> Entry | None:
        """The entry of a request, if any of its documents waits."""
        return self._of.get(work)

    def new_entry(self, work: ScoreWork) -> Entry:
        """An entry for a request that arrives now; not in the queue yet."""
        self._num_arrived += 1
        return Entry(work, (work.terms.priority, work.terms.deadline, self._num_arrived))

    def insert(self, entry: Entry) -> None:
        """Put an entry at its place."""
        self._entries.insert(self._place(entry.key), entry)
        self._of[entry.work] = entry
        self._num_deadlines += entry.terms.deadline < math.inf

    def remove(self, entry: Entry) -> None:
        """Take an entry out."""
        del self._entries[self._place(entry.key)]
        del self._of[entry.work]
        self._num_deadlines -= entry.terms.deadline < math.inf

    def _place(self, key: Key) -> int:
        return bisect_left(self._entries, key, key=lambda entry: entry.key)

    def seconds(self, load: Load) -> float:
        """What a request will take once its turn has come."""
        num_calls = max(1.0, load.num_tokens / self._max_pack_tokens) + (load.num_prefix_tokens > 0)
        return CAUTION * self._cost.seconds(load.num_tokens + load.num_prefix_tokens, num_calls)

    def seconds_left(self, entry: Entry) -> float:
        """What is still to be done for an entry; less than a call may be shared with others."""
        num_prefix_tokens = sum(len(prefix.ids) for prefix in entry.prefixes if prefix.kv is None)
        num_tokens = entry.num_tokens + num_prefix_tokens
        return CAUTION * self._cost.seconds(num_tokens, num_tokens / self._max_pack_tokens)

    def seconds_late(self, load: Load, terms: Terms, free_at: float) -> float:
        """By how much a request that arrives now would be late, or make another one late; 0 if neither.

        Args:
            load: what it brings.
            terms: its own.
            free_at: when the engine is free for what waits.
        """
        if not self._num_deadlines and terms.deadline == math.inf:
            return 0.0
        place = self._place((terms.priority, terms.deadline, self._num_arrived + 1))
        start = self._end_of(self._entries[:place], free_at)
        needed = self.seconds(Load(load.first_tokens, load.num_prefix_tokens) if terms.is_partial else load)
        if start + needed > terms.deadline:
            return start + needed - terms.deadline
        end = min(start + self.seconds(load), terms.deadline)
        return self._broken_promise(self._entries[place:], start, end, terms.priority)

    def _end_of(self, entries: Sequence[Entry], start: float) -> float:
        for entry in entries:
            start = min(start + self.seconds_left(entry), max(start, entry.terms.deadline))
        return start

    def _broken_promise(self, behind: Sequence[Entry], without: float, with_it: float, priority: int) -> float:
        """How late the first of `behind` is that would be in time if they began at `without`, not at `with_it`."""
        for entry in behind:
            seconds, deadline = self.seconds_left(entry), entry.terms.deadline
            is_promised = entry.terms.priority == priority and not entry.terms.is_partial
            if is_promised and without + seconds <= deadline < with_it + seconds:
                return with_it + seconds - deadline
            without = min(without + seconds, max(without, deadline))
            with_it = min(with_it + seconds, max(with_it, deadline))
            if entry.terms.priority != priority or deadline == math.inf:
                break
        return 0.0
