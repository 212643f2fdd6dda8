"""Scores already computed, least recently used out first, bounded in bytes.

    key    blake2b(artifact hash, instruction, query, how documents are cut; document), 16 bytes
    value  label logits and what an answer says of the pair: 9 + 4 K bytes

The key holds all that a score depends on, so an entry is never stale: another artifact has other keys. The logits are
the engine's own, so that a hit gives the very numbers the computation gave. Text is not kept.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from relevance.pair import Pair
from service.tokenise import Cut

DIGEST_BYTES = 16
# What an entry costs in Python beside its value: two bytes objects and a link of the OrderedDict.
ENTRY_BYTES = 250
_HEAD = struct.Struct("<HHB")
_TRUNCATED, _QUERY_TRUNCATED = 1, 2

Key = bytes


@dataclass(frozen=True, slots=True, eq=False)
class PairRecord:
    """What is known of a pair once it has been scored."""

    label_logits: NDArray[np.float32]  # [K]
    num_prefix_tokens: int
    num_document_tokens: int
    truncated: bool
    query_truncated: bool

    def pack(self) -> bytes:
        """As bytes; token counts beyond 65,535 do not fit and raise struct.error."""
        flags = _TRUNCATED * self.truncated + _QUERY_TRUNCATED * self.query_truncated
        return _HEAD.pack(self.num_prefix_tokens, self.num_document_tokens, flags) + self.label_logits.tobytes()

    @classmethod
    def unpack(cls, value: bytes, num_grades: int) -> "PairRecord | None":
        """The record in `value`; None if it is none of `num_grades` grades."""
        if len(value) != _HEAD.size + 4 * num_grades:
            return None
        num_prefix_tokens, num_document_tokens, flags = _HEAD.unpack_from(value)
        logits = np.frombuffer(value, dtype="<f4", offset=_HEAD.size)
        if not np.isfinite(logits).all():
            return None
        return cls(
            logits, num_prefix_tokens, num_document_tokens, bool(flags & _TRUNCATED), bool(flags & _QUERY_TRUNCATED)
        )


def keys_of(artifact_hash: str, pairs: Sequence[Pair], cut: Cut) -> list[Key]:
    """The key of each pair."""
    of_query: dict[tuple[str, str | None], blake2b] = {}
    keys: list[Key] = []
    for pair in pairs:
        shared = of_query.get((pair.query, pair.instruction))
        if shared is None:
            # A tuple's repr tells every field from its neighbours, whatever they contain.
            context = repr((artifact_hash, pair.instruction, pair.query, cut.max_document_tokens, cut.keep))
            shared = of_query[pair.query, pair.instruction] = blake2b(context.encode(), digest_size=DIGEST_BYTES)
        digest = shared.copy()
        digest.update(b"\0")
        digest.update(pair.document.encode())
        keys.append(digest.digest())
    return keys


class ScoreCache:
    """LRU of packed records. The event loop owns it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, bytes] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_on(self) -> bool:
        """Whether it may hold anything."""
        return self._max_bytes > 0

    def get(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The value of each key, now the most recently used; None where there is none."""
        found = [self._entries.get(key) for key in keys]
        for key, value in zip(keys, found, strict=True):
            if value is not None:
                self._entries.move_to_end(key)
        return found

    def put(self, items: Iterable[tuple[Key, bytes]]) -> None:
        """Hold `items`, evicting the least recently used."""
        for key, value in items:
            replaced = self._entries.pop(key, None)
            if replaced is not None:
                self.num_bytes -= _size(replaced)
            self._entries[key] = value
            self.num_bytes += _size(value)
        while self.num_bytes > self._max_bytes:
            _, evicted = self._entries.popitem(last=False)
            self.num_bytes -= _size(evicted)


def _size(value: bytes) -> int:
    return len(value) + ENTRY_BYTES
