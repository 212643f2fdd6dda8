"""How much of what waits goes into the next pack. Pure functions of the cost model.

Larger packs share the cost of a call, and keep everybody in them waiting for the last of them. So

    size    a pack holds what spends EFFICIENCY of its time on tokens, at most `max_pack_tokens`: beyond that, more
            tokens gain less than the rest;
    filler  what follows the last request that a pack completes rides along only to save a call. It stays behind
            where that costs the completed ones more than it saves those that wait:
                a * filler tokens * completed requests  >  b * requests still waiting
    rush    the front request's deadline cuts the pack after it, or for one that takes a partial answer
            after what is done by then.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.cost import CostModel

EFFICIENCY = 0.95
MIN_PACK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Reach:
    """The documents that one pack could hold, in the order they would be served."""

    tokens: Sequence[int]
    """Tokens of each."""
    completed: Sequence[int]
    """How many requests are complete with each."""
    num_waiting: int
    """Requests that wait, those in the pack included."""
    front_completes_at: int | None
    """The document that completes the front request; None if the pack does not."""
    front_is_partial: bool
    seconds_left: float
    """Until the front request's deadline."""


def target_tokens(cost: CostModel, max_pack_tokens: int) -> int:
    """Tokens of a pack that is worth its call."""
    wanted = math.ceil(min(cost.tokens_for_efficiency(EFFICIENCY), max_pack_tokens))
    return min(max(wanted, MIN_PACK_TOKENS), max_pack_tokens)


def cut_reach(reach: Reach, cost: CostModel) -> int:
    """How many documents of `reach` (at least one) go; at least one does."""
    ends = [0]
    for tokens in reach.tokens:
        ends.append(ends[-1] + tokens)
    number = _without_filler(reach, ends, cost)
    fits = cost.tokens_within(reach.seconds_left)
    if ends[number] <= fits:
        return number
    if reach.front_is_partial:
        return max(1, sum(end <= fits for end in ends[1 : number + 1]))
    front = reach.front_completes_at
    return number if front is None else min(number, front + 1)


def _without_filler(reach: Reach, ends: Sequence[int], cost: CostModel) -> int:
    total = reach.completed[-1]
    if total == 0:
        return len(reach.tokens)
    last = next(place for place, completed in enumerate(reach.completed) if completed == total)
    filler = ends[-1] - ends[last + 1]
    delay = cost.seconds_per_token * filler * total
    saving = cost.seconds_per_call * (reach.num_waiting - total)
    return last + 1 if delay > saving else len(reach.tokens)
