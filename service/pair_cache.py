"""What is known of pairs already: the score cache of this process first, then the one that replicas share.

What the shared one has is kept here too. Neither is asked when both are off, and no key is computed.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from relevance.pair import Pair
from service.queue_metrics import QueueMetrics
from service.score_cache import Key, PairRecord, ScoreCache, keys_of
from service.tokenise import Cut


class RemoteCache(Protocol):
    """A cache outside the process. It may lose anything, but must neither raise nor take long."""

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key; None for what it has not, or cannot tell in time."""
        ...

    def put(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Store `items` some time soon."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class PairCache:
    """The caches as one artifact's scorer sees them."""

    def __init__(
        self, artifact_hash: str, local: ScoreCache, remote: RemoteCache | None, metrics: QueueMetrics
    ) -> None:
        self._artifact_hash = artifact_hash
        self._local = local
        self._remote = remote
        self._metrics = metrics

    def keys(self, pairs: Sequence[Pair], cut: Cut) -> list[Key]:
        """The key of each pair; none at all when there is nothing to look in."""
        if not self._local.is_on and self._remote is None:
            return []
        return keys_of(self._artifact_hash, pairs, cut)

    async def get(self, keys: Sequence[Key], num_grades: int) -> list[PairRecord | None]:
        """The record of each key, None where there is none."""
        records = [self._unpack(value, num_grades) for value in self._local.get(keys)]
        missing = [index for index, record in enumerate(records) if record is None]
        self._metrics.count_scores("local", len(keys) - len(missing))
        if self._remote is None or not missing:
            return records
        found = await self._remote.get([keys[index] for index in missing])
        fetched: list[tuple[Key, bytes]] = []
        for index, value in zip(missing, found, strict=True):
            records[index] = self._unpack(value, num_grades)
            if value is not None and records[index] is not None:
                fetched.append((keys[index], value))
        self._local.put(fetched)
        self._metrics.count_scores("redis", len(fetched))
        return records

    def put(self, items: Iterable[tuple[Key, PairRecord]]) -> None:
        """Keep what has been computed."""
        packed = [(key, record.pack()) for key, record in items]
        self._local.put(packed)
        if self._remote is not None:
            self._remote.put(packed)

    def count(self, shared: int, computed: int) -> None:
        """`shared` pairs were computed for another request at the same time, `computed` ones for this one."""
        self._metrics.count_scores("shared", shared)
        self._metrics.count_scores("computed", computed)

    @staticmethod
    def _unpack(value: bytes | None, num_grades: int) -> PairRecord | None:
        return None if value is None else PairRecord.unpack(value, num_grades)
