"""KV of scored pairs, so that an explanation goes on from where its score was read. Bounded in bytes.

    put       a scored pair, kept while there is room: least recently used out first
    take      an explanation begins: its pair's KV is pinned, and held until
    release   the explanation ends

What is pinned is never evicted, so the store may be over its bound by what explanations under way need, whose number
is bounded. With a bound of 0 it holds nothing else. Every block has an owner: the least-recently-used order, or pins.
A prefix is shared by the pairs of its query and counted once.

Not thread-safe: whoever holds the batcher's lock owns it.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass

from engine.base import PrefixKV, PromptKV
from service.work import Prompt


@dataclass(slots=True)
class _Entry:
    kv: PromptKV
    num_pins: int = 0


class KVStore:
    """LRU of `PromptKV` with pins."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Prompt, _Entry] = OrderedDict()
        self._prefix_users: Counter[PrefixKV] = Counter()
        self.num_bytes = 0
        self.num_pins = 0
        self.num_evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_on(self) -> bool:
        """Whether scored pairs are kept."""
        return self._max_bytes > 0

    def put(self, prompt: Prompt, kv: PromptKV) -> None:
        """Keep a scored pair, if it fits at all."""
        if prompt in self._entries:
            self._entries.move_to_end(prompt)
        elif kv.num_bytes + kv.prefix.num_bytes <= self._max_bytes:
            self._add(prompt, kv)
            self._shrink()

    def take(self, prompt: Prompt) -> PromptKV | None:
        """The KV of a pair, pinned once more; None if it is not held."""
        entry = self._entries.get(prompt)
        if entry is None:
            return None
        self._entries.move_to_end(prompt)
        self._pin(entry)
        return entry.kv

    def hold(self, prompt: Prompt, kv: PromptKV) -> None:
        """Hold a pair that an explanation had computed, pinned."""
        if prompt not in self._entries:
            self._add(prompt, kv)
        self._pin(self._entries[prompt])
        self._shrink()

    def release(self, prompt: Prompt) -> None:
        """An explanation that took or held a pair has ended."""
        entry = self._entries[prompt]
        entry.num_pins -= 1
        self.num_pins -= 1
        self._shrink()

    def drop(self, prompt: Prompt) -> None:
        """Let go of a scored pair, unless an explanation holds it."""
        entry = self._entries.get(prompt)
        if entry is not None and not entry.num_pins:
            self._remove(prompt)

    def _pin(self, entry: _Entry) -> None:
        entry.num_pins += 1
        self.num_pins += 1

    def _add(self, prompt: Prompt, kv: PromptKV) -> None:
        self._entries[prompt] = _Entry(kv)
        self.num_bytes += kv.num_bytes
        if not self._prefix_users[kv.prefix]:
            self.num_bytes += kv.prefix.num_bytes
        self._prefix_users[kv.prefix] += 1

    def _remove(self, prompt: Prompt) -> None:
        kv = self._entries.pop(prompt).kv
        self.num_bytes -= kv.num_bytes
        self._prefix_users[kv.prefix] -= 1
        if not self._prefix_users[kv.prefix]:
            del self._prefix_users[kv.prefix]
            self.num_bytes -= kv.prefix.num_bytes

    def _shrink(self) -> None:
        if self.num_bytes <= self._max_bytes:
            return
        for prompt in [prompt for prompt, entry in self._entries.items() if not entry.num_pins]:
            if self.num_bytes <= self._max_bytes:
                break
            self._remove(prompt)
            self.num_evicted += 1
