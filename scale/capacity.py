"""How many machines a traffic needs, by simulation, and what they cost.

    plan = make_plan(load_profile(Path("shop.toml")))

    knee      the highest rate at which one engine answers `good_share` of the requests by their deadline: found by
              doubling and halving over simulations of at least MIN_REQUESTS requests each
    engines   requests_per_second / (knee * utilisation), rounded up; machines hold `engines` each, and `spare` more

Arrivals are split among engines at random, as a balancer that knows nothing does: of Poisson arrivals each engine then
sees Poisson arrivals. One that knows what waits where does better than this.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from scale.capacity_errors import CapacityError
from scale.capacity_profile import Profile
from scale.capacity_simulation import Answered, served

MIN_REQUESTS = 1500
MIN_SECONDS = 30.0
PRECISION = 0.02
HOURS_A_MONTH = 730


@dataclass(frozen=True, slots=True)
class Plan:
    """What to rent, and why."""

    name: str
    knee_per_engine: float
    """Requests a second."""
    engine_bound: float
    """Requests a second beyond which an engine cannot keep up at all, packs as full as can be."""
    rate_per_engine: float
    """What each is given, spares away."""
    p50_ms: float
    p99_ms: float
    """At that rate."""
    engine_busy: float
    """Share of the time, at that rate."""
    tokens_per_call: float
    engines: int
    machines: int
    """Spares included."""
    cost_per_hour: float
    cost_per_month: float
    cost_per_million_documents: float
    """At the planned rate, round the clock."""

    def to_json(self) -> dict[str, Any]:
        """As numbers with four figures that count."""
        return {
            name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in asdict(self).items()
        }


def make_plan(profile: Profile) -> Plan:
    """The plan of a profile.

    Raises:
        CapacityError: even a lone request misses its deadline too often.
    """
    deadline_s, wanted = profile.traffic.deadline_ms / 1000, profile.traffic.good_share

    def holds(rate: float) -> bool:
        return _served(profile, rate).good_share(deadline_s) >= wanted

    bound = _bound(profile)
    knee = highest(holds, bound)
    if knee is None:
        raise CapacityError(
            f"traffic.deadline_ms: even without a queue less than {wanted:.0%} of the requests are answered within "
            f"{profile.traffic.deadline_ms:g} ms: the engine is too slow for them, however many there are"
        )
    rate, machine = profile.traffic.requests_per_second, profile.machine
    engines = math.ceil(rate / (knee * machine.utilisation))
    machines = math.ceil(engines / machine.engines)
    given = rate / (machines * machine.engines)
    answered = _served(profile, given)
    times = sorted(answered.seconds)
    cost = (machines + machine.spare) * machine.price_per_hour
    mean_documents = _mean_documents(profile)
    return Plan(
        profile.name,
        knee,
        bound,
        given,
        1e3 * times[len(times) // 2],
        1e3 * times[min(len(times) - 1, int(0.99 * len(times)))],
        answered.engine_busy_s / answered.ended_s,
        given * _tokens(profile) * answered.ended_s / max(1, answered.num_calls),
        engines,
        machines + machine.spare,
        cost,
        cost * HOURS_A_MONTH,
        1e6 * cost / 3600 / (rate * mean_documents),
    )


def highest(holds: Callable[[float], bool], above: float, precision: float = PRECISION) -> float | None:
    """The highest rate that `holds`, to `precision`, looked for below `above`; None if a thousandth of it does not."""
    low, high = above, above
    while not holds(low):
        high, low = low, low / 2
        if low < above / 1000:
            return None
    while high == low and holds(2 * high):
        low = high = 2 * high
    high = 2 * high if high == low else high
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _served(profile: Profile, rate: float) -> Answered:
    return served(profile, rate, max(MIN_SECONDS, MIN_REQUESTS / rate))


def _mean_documents(profile: Profile) -> float:
    shares = profile.traffic.documents
    return sum(size * share for size, share in shares.items()) / sum(shares.values())


def _tokens(profile: Profile) -> float:
    """Tokens a request costs the engine, on average, lengths uncut."""
    traffic = profile.traffic
    means = [
        lengths.median * math.exp(lengths.spread**2 / 2) for lengths in (traffic.document_tokens, traffic.query_tokens)
    ]
    documents = _mean_documents(profile) * (1 - traffic.cached_pairs)
    return documents * means[0] + (1 - traffic.cached_queries) * means[1]


def _bound(profile: Profile) -> float:
    """Requests a second of an engine whose calls are all full."""
    tokens = _tokens(profile)
    calls = tokens / profile.engine.max_pack_tokens
    answers = profile.traffic.explain_share * profile.traffic.answer_tokens * profile.engine.seconds_per_answer_token
    scores = profile.engine.seconds_per_token * tokens + profile.engine.seconds_per_call * calls
    return 1.0 / max(scores + answers + profile.engine.engine_seconds_per_request, 1e-12)
