"""Which replica a request should go to: by its query, whose KV and scores one replica then holds. Pure.

    key      the query of a scoring request; of a handle or an explain id, the replica that has its pair
    order    replicas by rendezvous hashing: each key has its own order, and a replica that comes or goes moves only
             the keys it is first for, about 1/N of them
    choice   the first in that order, unless it has more than `bound` requests over the least busy one; then the next

So a query that everybody asks for spreads over as many replicas as it takes, and always over the same ones.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from service.explain_api.handles import worker_of

WORKER_PREFIX = "worker:"
EXPLAIN_PATH = "/explain"
# What the dialects call a query, in the order they are looked for; a list stands for its first text.
QUERY_FIELDS = ("query", "queries", "text_1", "data_1")


def key_of(path: str, body: bytes) -> str | None:
    """The key of a request; None for one that any replica serves as well.

    A body that no replica will take has no key either: refusing it is theirs.
    """
    if path.startswith(f"{EXPLAIN_PATH}/"):
        return _worker_key(path.removeprefix(f"{EXPLAIN_PATH}/"))
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    if path == EXPLAIN_PATH:
        handles = fields.get("handles")
        handle = fields.get("handle") or (handles[0] if isinstance(handles, list) and handles else None)
        if isinstance(handle, str):
            return _worker_key(handle)
    return _query_key(fields)


def worker_in(key: str) -> int | None:
    """The number of the replica that a key asks for; None where it is a query's."""
    number = key.removeprefix(WORKER_PREFIX)
    return int(number) if number != key and number.isdecimal() else None


def rendezvous(key: str, replicas: Iterable[str]) -> list[str]:
    """`replicas` (their ids), the one that `key` belongs to first."""
    return sorted(replicas, key=lambda replica: _weight(key, replica), reverse=True)


def prefer(order: Sequence[str], loads: Mapping[str, int], bound: int) -> list[str]:
    """`order` with the first that is not too busy in front; the others stay as they were, to fall back to.

    `loads` are requests under way, 0 where it is not known.
    """
    if not order:
        return []
    least = min(loads.get(replica, 0) for replica in order)
    chosen = next(replica for replica in order if loads.get(replica, 0) <= least + bound)
    return [chosen, *(replica for replica in order if replica != chosen)]


def _weight(key: str, replica: str) -> bytes:
    return hashlib.blake2b(key.encode(), key=hashlib.blake2b(replica.encode(), digest_size=16).digest()).digest()


def _worker_key(text: str) -> str | None:
    worker = worker_of(text)
    return None if worker is None else f"{WORKER_PREFIX}{worker}"


def _query_key(fields: Mapping[str, Any]) -> str | None:
    for name in QUERY_FIELDS:
        query = fields.get(name)
        if isinstance(query, list) and query:
            query = query[0]
        if isinstance(query, str):
            # A header carries it; a query's text may hold what headers must not.
            return hashlib.blake2b(query.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return None
