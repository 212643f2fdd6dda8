"""Ray Serve's hook for choosing a replica: `scale.serving.affinity` over what Serve knows of them.

Serve makes one of these in each proxy. It is told a request's key as its session id, which `scale.serving.edge` wrote
into a header, and the requests under way at each replica, which Serve keeps track of. A request without a key goes to
the less busy of two drawn at random, as with Serve's own router. A replica that is full is passed over for the next.
"""

import random
from collections.abc import Mapping

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from scale.serving.affinity import prefer, rendezvous, worker_in

DEFAULT_BOUND = 4


class PrefixRouter(RequestRouter):  # type: ignore[misc] # Ray has no types
    """Sends a query where it was sent before."""

    _bound = DEFAULT_BOUND

    def initialize_state(self, bound: int = DEFAULT_BOUND) -> None:
        """`bound`: requests that the replica of a query may have over the least busy one."""
        self._bound = bound

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas: Serve asks the first, and the next where that one has no room."""
        if pending_request is None or not candidate_replicas:
            return [list(candidate_replicas)]
        pending_request.routing_context.should_backoff = True  # all full: wait a little, then look again
        key = pending_request.metadata.session_id
        if not key:
            return [random.sample(candidate_replicas, min(2, len(candidate_replicas))), list(candidate_replicas)]
        worker = worker_in(key)
        if worker is not None:
            named = [one for one in candidate_replicas if one.replica_metadata.get("number") == worker]
            if named:
                # It alone has what the request is about; another has to ask it.
                return [named, list(candidate_replicas)]
        by_id = {one.replica_id.unique_id: one for one in candidate_replicas}
        order = prefer(rendezvous(key, by_id), self._loads(by_id), self._bound)
        return [[by_id[name]] for name in order]

    def _loads(self, replicas: Mapping[str, RunningReplica]) -> dict[str, int]:
        cache = self.replica_queue_len_cache
        return {name: cache.get(one.replica_id) or 0 for name, one in replicas.items()}
