"""The batching policy, as tables of cases and as properties of random schedules."""

import math
from dataclasses import dataclass
from itertools import accumulate, count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base import PrefixKV
from service.cost import CostModel
from service.errors import OverloadedError
from service.scheduler import PackLimits, Scheduler
from service.work import NO_TERMS, Batch, PrefixBatch, Prompt, ScoreWork, Terms
from tests.fakes import FakeClock

NUMBERS = count(1000)
LIMITS = PackLimits(max_pack_tokens=10, max_past_tokens=12, max_waiting_tokens=100)


def ids(name: str, length: int) -> tuple[int, ...]:
    return (ord(name),) * length


def work(*prompts: tuple[str, int], prefix_tokens: int = 3, terms: Terms = NO_TERMS) -> ScoreWork:
    """Prompts as (prefix name, document tokens); no document equals another."""
    return ScoreWork([Prompt(ids(name, prefix_tokens), document(length)) for name, length in prompts], terms)


def document(length: int) -> tuple[int, ...]:
    return (next(NUMBERS),) * length


def new_scheduler(limits: PackLimits = LIMITS, clock: FakeClock | None = None) -> Scheduler:
    """One whose calls are dear, so that packs are as large as they may be."""
    return Scheduler(limits, CostModel(1e-3, 1.0), clock or FakeClock())


def kv() -> PrefixKV:
    return PrefixKV(1, (np.zeros(1),), ())


def finish(batch: Batch) -> None:
    if isinstance(batch, PrefixBatch):
        for prefix in batch.prefixes:
            prefix.kv = kv()


def shape(batch: Batch | None) -> object:
    """A batch as the names of its prefixes, or as (prefix name, document tokens)."""
    if batch is None:
        return None
    if isinstance(batch, PrefixBatch):
        return "".join(chr(prefix.ids[0]) for prefix in batch.prefixes)
    return [(chr(document.prefix.ids[0]), len(document.ids)) for document in batch.documents]


def drain(scheduler: Scheduler) -> list[object]:
    shapes = []
    while (batch := scheduler.next_batch()) is not None:
        shapes.append(shape(batch))
        finish(batch)
    return shapes


def schedule(*works: ScoreWork, cached: str = "", limits: PackLimits = LIMITS) -> list[object]:
    scheduler = new_scheduler(limits)
    for one in works:
        scheduler.admit(one, {ids(name, 3): kv() for name in cached})
    return drain(scheduler)


def test_nothing_waits() -> None:
    assert schedule() == []


def test_a_lone_document_leaves_at_once_without_the_clock_advancing() -> None:
    clock = FakeClock()
    scheduler = new_scheduler(LIMITS, clock)
    lone = work(("a", 4))
    scheduler.admit(lone, {})
    assert drain(scheduler) == ["a", [("a", 4)]]
    assert lone.timings.queue_s == 0.0


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        pytest.param([work(("a", 4), ("a", 4), ("a", 4))], ["a", [("a", 4), ("a", 4)], [("a", 4)]], id="token budget"),
        pytest.param([work(("a", 5), ("a", 5))], ["a", [("a", 5), ("a", 5)]], id="budget met exactly"),
        pytest.param([work(("a", 25), ("a", 1))], ["a", [("a", 25)], [("a", 1)]], id="larger than a pack goes alone"),
        pytest.param([work(("a", 2)), work(("b", 2))], ["ab", [("a", 2), ("b", 2)]], id="requests share a pack"),
        pytest.param([work(("a", 2)), work(("a", 2))], ["a", [("a", 2), ("a", 2)]], id="same query computed once"),
        pytest.param(
            [work(("a", 8)), work(("b", 8)), work(("c", 1))],
            ["a", [("a", 8)], "bc", [("b", 8), ("c", 1)]],
            id="only prefixes of the pack that follows",
        ),
        pytest.param(
            [work(("a", 8)), work(("a", 8)), work(("b", 1))],
            ["a", [("a", 8)], [("a", 8)], "b", [("b", 1)]],
            id="nobody is overtaken",
        ),
        pytest.param(
            [work(*((name, 1) for name in "abcde"))],
            ["abc", [("a", 1), ("b", 1), ("c", 1)], "de", [("d", 1), ("e", 1)]],
            id="prefixes have a budget too",
        ),
    ],
)
def test_batches_of_a_queue(works: list[ScoreWork], expected: list[object]) -> None:
    assert schedule(*works) == expected


def test_a_cached_prefix_is_not_prefilled_and_its_document_does_not_wait_for_others() -> None:
    assert schedule(work(("a", 2)), work(("b", 2)), cached="a") == [[("a", 2)], "b", [("b", 2)]]


def test_a_document_behind_one_whose_prefix_is_missing_does_not_overtake_it() -> None:
    assert schedule(work(("a", 1), ("b", 2), ("a", 3)), cached="a") == [[("a", 1)], "b", [("b", 2), ("a", 3)]]


def test_a_pack_holds_no_more_past_than_allowed() -> None:
    limits = PackLimits(max_pack_tokens=10, max_past_tokens=6, max_waiting_tokens=100)
    shapes = schedule(work(*((name, 1) for name in "abc")), cached="abc", limits=limits)
    assert shapes == [[("a", 1), ("b", 1)], [("c", 1)]]


def test_times_are_those_of_the_clock() -> None:
    clock = FakeClock()
    scheduler = new_scheduler(LIMITS, clock)
    first = work(("a", 9), ("a", 9))
    scheduler.admit(first, {})
    clock.now += 2
    for _ in range(3):  # its prefix, then each document
        batch = scheduler.next_batch()
        assert batch is not None
        finish(batch)
        clock.now += 1
    assert first.timings.queue_s == 2.0
    assert math.isnan(first.timings.finished_at)


def test_a_request_beyond_the_bound_is_refused_whole() -> None:
    scheduler = new_scheduler()
    scheduler.admit(work(("a", 60)), {})
    with pytest.raises(OverloadedError, match="60 tokens are waiting; this request of 41 is refused"):
        scheduler.admit(work(("b", 40), ("b", 1)), {})
    assert (scheduler.num_waiting_documents, scheduler.num_waiting_tokens) == (1, 60)
    assert not scheduler.is_awaited(ids("b", 3))
    scheduler.admit(work(("b", 40)), {})
    assert scheduler.num_waiting_tokens == 100


def test_a_request_larger_than_the_bound_is_admitted_when_nothing_waits() -> None:
    assert schedule(work(("a", 300))) == ["a", [("a", 300)]]


def test_a_removed_request_leaves_nothing_behind_and_spares_the_others() -> None:
    scheduler = new_scheduler()
    gone, other = work(("a", 2), ("b", 2)), work(("a", 3))
    scheduler.admit(gone, {})
    scheduler.admit(other, {})
    scheduler.remove(gone)
    scheduler.remove(gone)
    assert not scheduler.is_awaited(ids("b", 3))
    assert (scheduler.num_waiting_documents, scheduler.num_waiting_tokens) == (1, 3)
    assert drain(scheduler) == ["a", [("a", 3)]]


def test_a_batch_knows_whom_it_fails() -> None:
    scheduler = new_scheduler()
    works = [work(("a", 2), ("a", 2)), work(("b", 2)), work(("c", 9)), work(("a", 9))]
    for one in works:
        scheduler.admit(one, {})
    prefixes = scheduler.next_batch()
    assert isinstance(prefixes, PrefixBatch)
    assert shape(prefixes) == "ab"
    assert scheduler.failed(prefixes) == [works[0], works[1], works[3]]
    assert shape(scheduler.next_batch()) == "c"


def test_a_failed_pack_fails_its_requests_and_what_waits_of_them() -> None:
    scheduler = new_scheduler()
    works = [work(("a", 4), ("a", 4), ("a", 4)), work(("a", 5))]
    for one in works:
        scheduler.admit(one, {ids("a", 3): kv()})
    batch = scheduler.next_batch()
    assert batch is not None
    assert scheduler.failed(batch) == [works[0]]
    assert drain(scheduler) == [[("a", 5)]]


@dataclass(frozen=True)
class Arrival:
    """A request of a random schedule; `cancelled_at` may come before, at or after its admission."""

    prompts: list[tuple[str, int]]
    gap: int
    cancelled_at: int | None


PROMPTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from((1, 2, 3, 9, 14))), min_size=1, max_size=5)
ARRIVALS = st.lists(st.builds(Arrival, PROMPTS, st.integers(0, 2), st.none() | st.integers(0, 12)), max_size=8)


def check_batch(batch: Batch) -> None:
    if isinstance(batch, PrefixBatch):
        size = len(batch.prefixes)
        assert all(prefix.kv is None for prefix in batch.prefixes)
        assert len({prefix.ids for prefix in batch.prefixes}) == size
    else:
        size = len(batch.documents)
        assert all(document.prefix.kv is not None for document in batch.documents)
        assert sum(len(p) for p in {document.prefix.ids for document in batch.documents}) <= LIMITS.max_past_tokens
    assert size >= 1
    assert batch.num_tokens <= LIMITS.max_pack_tokens or size == 1


@settings(deadline=None)
@given(arrivals=ARRIVALS, cached=st.sets(st.sampled_from("abc"), min_size=1))
def test_whatever_happens_nothing_is_lost_doubled_overtaken_or_over_budget(
    arrivals: list[Arrival], cached: set[str]
) -> None:
    scheduler = new_scheduler(PackLimits(10, 12, 10_000))
    works = [work(*arrival.prompts) for arrival in arrivals]
    admitted_at = list(accumulate(arrival.gap for arrival in arrivals))
    cancelled = any(arrival.cancelled_at is not None for arrival in arrivals)
    served: list[tuple[int, int]] = []
    waits_for_prefixes = 0
    for step in count():
        for place, arrival in enumerate(arrivals):
            if admitted_at[place] == step:
                scheduler.admit(works[place], {ids(name, 3): kv() for name in cached})
            if arrival.cancelled_at == step:
                scheduler.remove(works[place])
        batch = scheduler.next_batch()
        if batch is None and step >= max(admitted_at, default=0):
            break
        if batch is None:
            continue
        check_batch(batch)
        finish(batch)
        if isinstance(batch, PrefixBatch):
            waits_for_prefixes += 1
            assert waits_for_prefixes == 1 or cancelled, "a document at the front waits for one prefix batch at most"
        else:
            waits_for_prefixes = 0
            for one in batch.documents:
                ((waiter, places),) = one.waiters.items()
                served += [(works.index(waiter), place) for place in places]
            scheduler.scored(batch, np.zeros((len(batch.documents), 4), dtype=np.float32))
    assert served == sorted(set(served)), "in order, none twice"
    kept = [place for place, arrival in enumerate(arrivals) if arrival.cancelled_at is None]
    assert {(place, i) for place in kept for i in range(len(works[place].prompts))} <= set(served)
    assert (scheduler.num_waiting_documents, scheduler.num_waiting_tokens) == (0, 0)
    assert not any(scheduler.is_awaited(ids(name, 3)) for name in "abcdef")
