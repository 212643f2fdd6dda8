"""Every distinct prompt that waits or runs, and every distinct prefix they need: each there once, whoever asks. Pure.

    new -> waiting -> taken (running) -> done         or     waiting -> dropped, when nobody waits for it any more

A prompt belongs to all requests that have it and is owned by the most urgent of them: it is served at that one's
place and counts as that one's tokens. When the owner leaves, the next one inherits it.
"""

import math
from collections.abc import Mapping, Sequence

from engine.base import PrefixKV
from service.waiting import Entry, Load, WaitingQueue
from service.work import Prompt, ScoreWork, SharedPrefix, TokenIds, WaitingDocument


class DocumentPool:
    """The distinct documents and prefixes of one scheduler."""

    def __init__(self, queue: WaitingQueue) -> None:
        self._queue = queue
        self._prefixes: dict[TokenIds, SharedPrefix] = {}
        self._documents: dict[tuple[TokenIds, TokenIds], WaitingDocument] = {}
        self.num_waiting_tokens = 0
        self.num_waiting_documents = 0

    def is_awaited(self, prefix_ids: TokenIds) -> bool:
        """Whether a waiting document has this prefix."""
        return prefix_ids in self._prefixes

    def load(self, prompts: Sequence[Prompt], cached: Mapping[TokenIds, PrefixKV]) -> Load:
        """What `prompts` add to what is there."""
        new = {
            (prompt.prefix_ids, prompt.document_ids): len(prompt.document_ids)
            for prompt in prompts
            if (prompt.prefix_ids, prompt.document_ids) not in self._documents
        }
        prefixes = {prefix for prefix, _ in new if prefix not in self._prefixes and prefix not in cached}
        return Load(sum(new.values()), sum(map(len, prefixes)), next(iter(new.values()), 0))

    def add(self, entry: Entry, index: int, cached: Mapping[TokenIds, PrefixKV]) -> None:
        """Let the request of `entry` wait for its prompt `index`."""
        prompt = entry.work.prompts[index]
        document = self._documents.get((prompt.prefix_ids, prompt.document_ids))
        if document is None:
            self._create(entry, index, cached)
        elif entry.work in document.waiters:
            document.waiters[entry.work].append(index)
        else:
            self._join(entry, document, index)

    def _create(self, entry: Entry, index: int, cached: Mapping[TokenIds, PrefixKV]) -> None:
        prompt = entry.work.prompts[index]
        prefix = self._prefixes.get(prompt.prefix_ids)
        if prefix is None:
            prefix = SharedPrefix(prompt.prefix_ids, cached.get(prompt.prefix_ids))
            self._prefixes[prompt.prefix_ids] = prefix
            entry.prefixes.append(prefix)
        prefix.num_waiting += 1
        document = WaitingDocument(prefix, prompt.document_ids, {entry.work: [index]}, entry.work)
        self._documents[prompt.prefix_ids, prompt.document_ids] = document
        self.num_waiting_tokens += len(document.ids)
        self.num_waiting_documents += 1
        entry.append(document)
        entry.num_tokens += len(document.ids)

    def _join(self, entry: Entry, document: WaitingDocument, index: int) -> None:
        work = entry.work
        document.waiters[work] = [index]
        work.shared.append(index)
        if document.is_taken:  # the engine has it already
            if math.isnan(work.timings.started_at):
                work.timings.started_at = work.timings.admitted_at
            return
        entry.append(document)
        owner = self._queue.find(document.owner)
        if owner is not None and entry.key < owner.key:
            owner.num_tokens -= len(document.ids)
            entry.num_tokens += len(document.ids)
            document.owner = work

    def take(self, document: WaitingDocument) -> None:
        """Hand a document to the engine: it waits no more, but others may still join it."""
        document.is_taken = True
        owner = self._queue.find(document.owner)
        if owner is not None:
            owner.num_tokens -= len(document.ids)
        for work in document.waiters:
            entry = self._queue.find(work)
            if entry is not None:
                entry.num_left -= 1
                if not entry.num_left:
                    self._queue.remove(entry)
        self._leave(document)

    def done(self, document: WaitingDocument) -> None:
        """The engine has computed it, or failed to."""
        self._documents.pop((document.prefix.ids, document.ids), None)

    def withdraw(self, document: WaitingDocument, work: ScoreWork) -> None:
        """`work`, which has left the queue, waits for the document no more; it is dropped if nobody else does."""
        del document.waiters[work]
        if not document.waiters:
            document.is_taken = True
            self.done(document)
            self._leave(document)
        elif document.owner is work:
            heirs = [heir for heir in map(self._queue.find, document.waiters) if heir is not None]
            heir = min(heirs, key=lambda one: one.key)
            document.owner = heir.work
            heir.num_tokens += len(document.ids)

    def _leave(self, document: WaitingDocument) -> None:
        self.num_waiting_tokens -= len(document.ids)
        self.num_waiting_documents -= 1
        document.prefix.num_waiting -= 1
        if not document.prefix.num_waiting:
            del self._prefixes[document.prefix.ids]
