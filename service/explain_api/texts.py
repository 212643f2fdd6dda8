"""The texts behind handles: those of the pairs scored last, bounded in bytes, and where else they may be.

    put      what was scored with handles; strings that are in memory already are referred to, not copied
    find     here -> at the worker that scored it, over its socket -> nowhere

Text that is not found is not lost to the caller, who sent it: a handle that comes with its query and document needs no
store. The least recently used go first.
"""

import json
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from relevance.pair import Pair
from service.explain_api.handles import Handle
from service.score_cache import Key

# What an entry costs beside its texts: a pair, its digest and a link of the OrderedDict.
ENTRY_BYTES = 300

AskWorker = Callable[[int, str], Awaitable[str | None]]
"""`(worker, digest in hex)` to what that worker's `tell` says, or None if it says nothing."""


class PairTexts:
    """The store of one process. The event loop owns it."""

    def __init__(self, max_bytes: int, worker: int, ask: AskWorker | None = None) -> None:
        """`worker` is the number of this process; `ask` reaches the others, if there are any."""
        self.worker = worker
        self._max_bytes = max_bytes
        self._ask = ask
        self._pairs: OrderedDict[Key, tuple[Pair, int]] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def put(self, items: Iterable[tuple[Key, Pair]]) -> None:
        """Keep `items`, letting go of the least recently used."""
        for key, pair in items:
            _, replaced = self._pairs.pop(key, (None, 0))
            # Measured once: a string grows when somebody asks for its bytes.
            size = _size(pair)
            self._pairs[key] = pair, size
            self.num_bytes += size - replaced
        while self.num_bytes > self._max_bytes:
            _, (_, size) = self._pairs.popitem(last=False)
            self.num_bytes -= size

    async def find(self, handle: Handle) -> Pair | None:
        """The pair that `handle` names; None if no process has its texts any more."""
        pair = self._get(handle.pair)
        if pair is not None or handle.worker == self.worker or self._ask is None:
            return pair
        told = await self._ask(handle.worker, handle.pair.hex())
        if not told:
            return None
        pair = Pair(*json.loads(told))
        self.put([(handle.pair, pair)])
        return pair

    def tell(self, digest: str) -> str:
        """What another worker's `find` wants of this one; empty where there is nothing."""
        pair = self._get(bytes.fromhex(digest))
        return "" if pair is None else json.dumps([pair.query, pair.document, pair.instruction])

    def _get(self, key: Key) -> Pair | None:
        pair, _ = self._pairs.get(key, (None, 0))
        if pair is not None:
            self._pairs.move_to_end(key)
        return pair


def _size(pair: Pair) -> int:
    instruction = 0 if pair.instruction is None else sys.getsizeof(pair.instruction)
    return ENTRY_BYTES + sys.getsizeof(pair.query) + sys.getsizeof(pair.document) + instruction
