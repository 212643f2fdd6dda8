"""Which work the engine does next. Pure: no thread, no event loop, no model; the clock is an argument.

Requests wait in order of arrival, the documents of each in their own order. `next_batch`:

    1. walks the waiting documents from the front as far as one pack reaches (`max_pack_tokens` of documents,
       `max_past_tokens` of distinct prefixes behind them; always at least one document), across requests;
    2. if the first one's prefix has no KV yet, returns a PrefixBatch of the missing prefixes met on that walk,
       so that the pack that follows is full;
    3. else hands over the documents up to the first whose prefix is missing.

So a document at the front waits for one prefix batch at most, nobody is overtaken, and whatever waits while the
engine is busy leaves together. A prefix that several requests wait for is one SharedPrefix, prefilled once.
A request is admitted whole or not at all.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from engine.base import PrefixKV
from service.errors import OverloadedError
from service.work import Batch, DocumentBatch, PrefixBatch, ScoreWork, SharedPrefix, TokenIds, WaitingDocument


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

    def __init__(self, limits: PackLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._waiting: OrderedDict[ScoreWork, deque[WaitingDocument]] = OrderedDict()
        self._prefixes: dict[TokenIds, SharedPrefix] = {}
        self.num_waiting_tokens = 0
        self.num_waiting_documents = 0

    def is_awaited(self, prefix_ids: TokenIds) -> bool:
        """Whether a waiting document has this prefix: its KV is there or on its way."""
        return prefix_ids in self._prefixes

    def admit(self, work: ScoreWork, cached: Mapping[TokenIds, PrefixKV]) -> None:
        """Put a request at the end of the queue; `cached` holds the KV of those of its prefixes that have been kept.

        Raises:
            OverloadedError: too much waits already; nothing was admitted.
        """
        num_tokens = sum(len(prompt.document_ids) for prompt in work.prompts)
        if self._waiting and self.num_waiting_tokens + num_tokens > self._limits.max_waiting_tokens:
            raise OverloadedError(
                f"{self.num_waiting_tokens} tokens are waiting; this request of {num_tokens} is refused"
            )
        work.timings.admitted_at = self._clock()
        documents: deque[WaitingDocument] = deque()
        for index, prompt in enumerate(work.prompts):
            prefix = self._prefixes.get(prompt.prefix_ids)
            if prefix is None:
                prefix = SharedPrefix(prompt.prefix_ids, cached.get(prompt.prefix_ids))
                self._prefixes[prompt.prefix_ids] = prefix
            prefix.num_waiting += 1
            documents.append(WaitingDocument(work, index, prefix, prompt.document_ids))
        self._waiting[work] = documents
        self.num_waiting_tokens += num_tokens
        self.num_waiting_documents += len(documents)

    def next_batch(self) -> Batch | None:
        """What the engine should do now; None if nothing waits."""
        reach = self._next_pack()
        if not reach:
            return None
        if reach[0].prefix.kv is None:
            prefixes = self._missing_prefixes(reach)
            self._stamp(document for document in reach if document.prefix in prefixes)
            return PrefixBatch(prefixes)
        documents = tuple(takewhile(lambda document: document.prefix.kv is not None, reach))
        self._stamp(documents)
        self._hand_over(documents)
        return DocumentBatch(documents)

    def remove(self, work: ScoreWork) -> None:
        """Forget what still waits of a request that was cancelled or has failed."""
        for document in self._waiting.pop(work, ()):
            self._leave(document)

    def works_behind(self, batch: Batch) -> list[ScoreWork]:
        """The requests that `batch` fails if it fails, each once."""
        if isinstance(batch, DocumentBatch):
            return list(dict.fromkeys(document.work for document in batch.documents))
        failed = set(batch.prefixes)
        return [work for work, documents in self._waiting.items() if any(d.prefix in failed for d in documents)]

    def _stamp(self, documents: Iterable[WaitingDocument]) -> None:
        now = self._clock()
        for work in {document.work for document in documents}:
            if math.isnan(work.timings.started_at):
                work.timings.started_at = now

    def _next_pack(self) -> list[WaitingDocument]:
        reach: list[WaitingDocument] = []
        tokens, past = self._limits.max_pack_tokens, self._limits.max_past_tokens
        prefixes: set[SharedPrefix] = set()
        for document in self._documents():
            tokens -= len(document.ids)
            if document.prefix not in prefixes:
                prefixes.add(document.prefix)
                past -= len(document.prefix.ids)
            if reach and (tokens < 0 or past < 0):
                break
            reach.append(document)
        return reach

    def _documents(self) -> Iterator[WaitingDocument]:
        for documents in self._waiting.values():
            yield from documents

    def _missing_prefixes(self, reach: Sequence[WaitingDocument]) -> tuple[SharedPrefix, ...]:
        chosen: list[SharedPrefix] = []
        room = self._limits.max_pack_tokens
        for prefix in dict.fromkeys(document.prefix for document in reach if document.prefix.kv is None):
            room -= len(prefix.ids)
            if chosen and room < 0:
                break
            chosen.append(prefix)
        return tuple(chosen)

    def _hand_over(self, documents: Sequence[WaitingDocument]) -> None:
        for document in documents:
            waiting = self._waiting[document.work]
            waiting.popleft()
            if not waiting:
                del self._waiting[document.work]
            self._leave(document)

    def _leave(self, document: WaitingDocument) -> None:
        self.num_waiting_tokens -= len(document.ids)
        self.num_waiting_documents -= 1
        document.prefix.num_waiting -= 1
        if not document.prefix.num_waiting:
            del self._prefixes[document.prefix.ids]
