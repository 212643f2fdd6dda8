"""How many replicas a load needs, by what waits: Ray Serve calls it every moment. Pure.

    up     as many as it takes for none to have more than `target_tokens` waiting: ceil(waiting / target_tokens)
    down   one fewer, where the others would have less than one request under way each, and nothing much waits

Waiting tokens are the schedulers' own (`relevance_waiting_tokens`), the mean over Serve's look-back. They say nothing
of an engine that keeps up, hence the second condition: with one request under way on average an engine is about half
busy. Serve applies the bounds and the delays of its `autoscaling_config` to what is returned here.
"""

import math
from typing import Any, Protocol

WAITING_TOKENS = "waiting_tokens"
# What waits may be this share of the target for a replica to be let go.
CALM_SHARE = 0.1


class Load(Protocol):
    """What Serve tells a policy: those fields of its AutoscalingContext that are used here."""

    target_num_replicas: int

    @property
    def total_num_requests(self) -> float:
        """Requests under way at all replicas, the mean over the look-back."""
        ...

    @property
    def aggregated_metrics(self) -> Any:
        """What `record_autoscaling_stats` returned, by name and replica, the mean over the look-back."""
        ...


class QueuedTokens:
    """The policy."""

    def __init__(self, target_tokens: int) -> None:
        """`target_tokens` may wait at each replica: its tokens a second times the seconds a caller may wait."""
        self._target_tokens = target_tokens

    def __call__(self, load: Load) -> tuple[int, dict[str, Any]]:
        """The number of replicas, and no state."""
        waiting = sum((load.aggregated_metrics or {}).get(WAITING_TOKENS, {}).values())
        now = load.target_num_replicas
        needed = math.ceil(waiting / self._target_tokens)
        if needed > now:
            return needed, {}
        is_calm = waiting <= CALM_SHARE * self._target_tokens * now
        if now > 1 and is_calm and load.total_num_requests < now - 1:
            return now - 1, {}
        return now, {}
