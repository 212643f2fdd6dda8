"""KV of prefixes already computed, least recently used out first, bounded in bytes.

Keyed by the prefix's token ids, so two spellings of a query that encode alike share an entry. An entry handed
out stays valid after its eviction: arrays are never written again.
"""

from collections import OrderedDict

from engine.base import PrefixKV


class PrefixCache:
    """LRU of `PrefixKV`. Not thread-safe: the thread that drives the engine owns it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[int, ...], PrefixKV] = OrderedDict()
        self.num_bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, ids: tuple[int, ...]) -> PrefixKV | None:
        """The KV of prefix `ids`, now the most recently used; None if it is not held."""
        found = self._entries.get(ids)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(ids)
        return found

    def put(self, ids: tuple[int, ...], kv: PrefixKV) -> None:
        """Hold `kv`, evicting the least recently used; one larger than the whole cache is not held."""
        if kv.num_bytes > self._max_bytes:
            return
        replaced = self._entries.pop(ids, None)
        self.num_bytes += kv.num_bytes - (replaced.num_bytes if replaced is not None else 0)
        self._entries[ids] = kv
        while self.num_bytes > self._max_bytes:
            _, evicted = self._entries.popitem(last=False)
            self.num_bytes -= evicted.num_bytes
