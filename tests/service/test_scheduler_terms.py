"""Deadlines, priorities and shared work in the scheduler: who is first, who is refused, who is given up."""

import math
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cost import CostModel
from service.errors import DeadlineUnmeetableError, OverloadedError
from service.scheduler import TURN_OF_OLDEST, PackLimits, Scheduler
from service.waiting import CAUTION, Load
from service.work import DocumentBatch, PrefixBatch, Prompt, ScoreWork, Terms
from tests.fakes import FakeClock
from tests.service.test_scheduler import finish, ids, kv

MS = 1e-3
CACHED = {ids("a", 3): kv()}


class Bench:
    """A scheduler whose calls take 1 ms a token and 1.1 ms a call, and an engine that takes exactly that."""

    def __init__(self, max_pack_tokens: int = 20) -> None:
        self.clock = FakeClock()
        self.cost = CostModel(MS, 1.1 * MS)
        self.scheduler = Scheduler(PackLimits(max_pack_tokens, 100, 10_000), self.cost, self.clock)
        self._numbers = count()

    def work(
        self, *lengths: int, in_ms: float = math.inf, priority: int = 0, partial: bool = False, name: str = "a"
    ) -> ScoreWork:
        prompts = [Prompt(ids(name, 3), (next(self._numbers),) * length) for length in lengths]
        return ScoreWork(prompts, Terms(self.clock.now + in_ms * MS, priority, partial))

    def admit(self, *works: ScoreWork) -> None:
        for one in works:
            self.scheduler.admit(one, CACHED)

    def step(self) -> list[ScoreWork]:
        """Run the next batch; the requests served in it, in order."""
        batch = self.scheduler.next_batch()
        if batch is None:
            return []
        self.clock.now += MS * (batch.num_tokens + 1.1)
        finish(batch)
        if isinstance(batch, PrefixBatch):
            return self.step()
        self.scheduler.scored(batch, np.zeros((len(batch.documents), 4), dtype=np.float32))
        return list(dict.fromkeys(work for document in batch.documents for work in document.waiters))

    def served(self) -> list[ScoreWork]:
        order: list[ScoreWork] = []
        while works := self.step():
            order += [one for one in works if one not in order]
        return order


def test_order_is_priority_then_deadline_then_arrival() -> None:
    bench = Bench()
    last = bench.work(20, priority=5, in_ms=900)
    open_ended, later, sooner, again = (bench.work(20, in_ms=ms) for ms in (math.inf, 800, 500, 500))
    bench.admit(last, open_ended, later, sooner, again)
    assert bench.served() == [sooner, again, later, open_ended, last]


def test_an_urgent_request_is_next_once_the_running_pack_has_ended() -> None:
    bench = Bench()
    long, urgent = bench.work(*[20] * 5), bench.work(20, in_ms=80)
    bench.admit(long)
    assert bench.step() == [long]
    bench.admit(urgent)
    assert bench.step() == [urgent]


def test_a_pack_ends_with_the_request_it_completes_when_the_rest_can_wait() -> None:
    bench = Bench()
    short, long = bench.work(8), bench.work(*[12] * 5)
    bench.admit(short, long)
    assert bench.step() == [short]


def test_every_eighth_pack_begins_with_the_oldest() -> None:
    bench = Bench()
    old = bench.work(*[20] * 3, priority=9)
    bench.admit(old)
    turns = []
    for _ in range(3 * TURN_OF_OLDEST):
        bench.admit(bench.work(20))
        turns.append(bench.step() == [old])
    assert turns == ([False] * (TURN_OF_OLDEST - 1) + [True]) * 3


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=6),
    arrivals=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2), st.sampled_from("abc")), max_size=200),
)
def test_nobody_starves_whoever_arrives(lengths: list[int], arrivals: list[tuple[int, int, str]]) -> None:
    bench = Bench()
    old = bench.work(*lengths, priority=99, name="z")
    bench.admit(old)
    feed = iter(arrivals)
    for _ in range(TURN_OF_OLDEST * len(lengths)):
        for length, priority, name in (next(feed, None) or (30, 0, "a") for _ in range(2)):
            bench.admit(bench.work(length, priority=priority, name=name))
        bench.step()
    assert old.is_scored


def test_what_cannot_be_in_time_is_refused_on_arrival() -> None:
    bench = Bench()
    needed = CAUTION * 21.1  # one pack
    with pytest.raises(DeadlineUnmeetableError) as alone:
        bench.admit(bench.work(20, in_ms=needed - 1))
    assert alone.value.retry_after_s is None, "waiting would not help"
    bench.admit(bench.work(20, in_ms=needed + 1))
    with pytest.raises(
        DeadlineUnmeetableError, match=r"20 tokens are waiting; with this request of 20 .* ms late"
    ) as late:
        bench.admit(bench.work(20, in_ms=2 * needed - 1))
    assert late.value.retry_after_s == 1
    bench.admit(bench.work(20, in_ms=2 * needed + 1))
    assert bench.scheduler.num_waiting_documents == 2


def test_the_running_pack_counts() -> None:
    bench = Bench()
    bench.admit(bench.work(20))
    batch = bench.scheduler.next_batch()
    assert batch is not None
    with pytest.raises(DeadlineUnmeetableError):
        bench.admit(bench.work(20, in_ms=40))
    bench.admit(bench.work(20, in_ms=60))


def test_the_prefix_counts() -> None:
    bench = Bench()
    with pytest.raises(DeadlineUnmeetableError):
        bench.admit(bench.work(20, in_ms=28, name="n"))
    bench.admit(bench.work(20, in_ms=28))


def test_a_promise_is_not_broken_for_a_later_arrival() -> None:
    bench = Bench()
    promised = bench.work(20, 20, in_ms=70)
    bench.admit(promised)
    with pytest.raises(DeadlineUnmeetableError):
        bench.admit(bench.work(20, in_ms=50))
    bench.admit(bench.work(10, in_ms=50))
    bench.served()
    assert promised.is_scored


def test_a_promise_to_a_lower_priority_is_not_kept_at_a_higher_ones_cost() -> None:
    bench = Bench()
    bench.admit(bench.work(20, 20, in_ms=60, priority=1))
    bench.admit(bench.work(20, 20, in_ms=60, priority=0))


def test_what_has_left_by_then_is_not_waited_for() -> None:
    bench = Bench()
    bench.admit(bench.work(*[20] * 10, in_ms=50, partial=True))
    bench.admit(bench.work(20, in_ms=80))


def test_one_that_takes_a_partial_answer_is_let_in_for_its_first_document() -> None:
    bench = Bench()
    with pytest.raises(DeadlineUnmeetableError):
        bench.admit(bench.work(*[20] * 10, in_ms=20, partial=True))
    some = bench.work(*[20] * 10, in_ms=50, partial=True)
    bench.admit(some)
    bench.served()
    assert [row is not None for row in some.rows] == [True] * 2 + [False] * 8
    assert bench.scheduler.pop_expired() == [some]


def test_what_has_expired_is_not_computed() -> None:
    bench = Bench()
    late, fine = bench.work(20, in_ms=30), bench.work(20, in_ms=500)
    bench.admit(late, fine)
    bench.clock.now += 0.2
    assert bench.served() == [fine]
    assert bench.scheduler.pop_expired() == [late]
    assert bench.scheduler.pop_expired() == []
    assert bench.scheduler.num_waiting_documents == 0


def test_what_cannot_be_finished_in_time_is_given_up_before_its_deadline() -> None:
    bench = Bench()
    late = bench.work(*[20] * 5, in_ms=140)
    bench.admit(late)
    bench.clock.now += 0.1
    assert bench.served() == []
    assert bench.scheduler.pop_expired() == [late]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_of_the_clock_loses_nobody(jump: float) -> None:
    bench = Bench()
    with_deadline, without = bench.work(20, in_ms=100), bench.work(20)
    bench.admit(with_deadline, without)
    bench.clock.now += jump
    served = bench.served()
    expired = bench.scheduler.pop_expired()
    assert set(served) | set(expired) == {with_deadline, without}
    assert without in served
    bench.admit(bench.work(20, in_ms=100))


def same(bench: Bench, *works: tuple[float, int]) -> list[ScoreWork]:
    """Requests for the same two documents, as (ms, priority)."""
    prompts = [Prompt(ids("a", 3), ids(name, 10)) for name in "xy"]
    return [ScoreWork(prompts, Terms(bench.clock.now + ms * MS, priority)) for ms, priority in works]


def test_equal_prompts_are_computed_once_at_the_place_of_the_most_urgent() -> None:
    bench = Bench()
    slow, fast = same(bench, (900, 0), (100, 0))
    other = bench.work(20, in_ms=500)
    bench.admit(slow, other, fast)
    assert bench.scheduler.num_waiting_tokens == 40
    assert fast.shared == [0, 1]
    assert bench.step() == [slow, fast]
    assert slow.is_scored
    assert fast.is_scored
    assert bench.served() == [other]


def test_equal_prompts_count_where_they_are_served() -> None:
    bench = Bench()
    slow, fast = same(bench, (math.inf, 0), (40, 0))
    bench.admit(slow, fast)
    with pytest.raises(DeadlineUnmeetableError):  # 20 tokens of the fast one are ahead, though the slow one came first
        bench.admit(bench.work(20, in_ms=45))
    bench.scheduler.remove(fast)
    bench.admit(bench.work(20, in_ms=45))


def test_an_heir_counts_what_it_inherits() -> None:
    bench = Bench()
    slow, fast = same(bench, (40, 0), (39, 0))
    bench.admit(fast, slow)
    bench.scheduler.remove(fast)
    with pytest.raises(DeadlineUnmeetableError):
        bench.admit(bench.work(20, in_ms=45))


def test_what_has_been_served_is_not_ahead_any_more() -> None:
    bench = Bench()
    bench.admit(bench.work(*[20] * 5, in_ms=200))
    for _ in range(4):
        bench.step()
    bench.admit(bench.work(20, in_ms=130))  # behind the one document left


def test_equal_prompts_add_no_load() -> None:
    bench = Bench()
    for one in same(bench, *[(40, 0)] * 50):
        bench.admit(one)
    assert bench.scheduler.num_waiting_documents == 2


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_one_that_leaves_does_not_hurt_the_others(leaver: int) -> None:
    bench = Bench()
    works = same(bench, (900, 0), (100, 0), (500, 0))
    bench.admit(*works)
    bench.scheduler.remove(works[leaver])
    bench.scheduler.remove(works[leaver])
    assert bench.scheduler.num_waiting_tokens == 20
    stayed = [one for one in works if one is not works[leaver]]
    assert set(bench.served()) == set(stayed)
    assert all(one.is_scored for one in stayed)
    assert not works[leaver].is_scored


def test_when_all_leave_nothing_is_computed() -> None:
    bench = Bench()
    works = same(bench, (900, 0), (100, 0))
    bench.admit(*works)
    for one in works:
        bench.scheduler.remove(one)
    assert bench.served() == []
    assert bench.scheduler.num_waiting_tokens == 0
    assert not bench.scheduler.is_awaited(ids("a", 3))


def test_what_the_engine_is_computing_can_be_joined() -> None:
    bench = Bench()
    first, second = same(bench, (math.inf, 0), (math.inf, 0))
    bench.admit(first)
    batch = bench.scheduler.next_batch()
    assert isinstance(batch, DocumentBatch)
    bench.admit(second)
    assert bench.scheduler.next_batch() is None
    assert set(bench.scheduler.scored(batch, np.ones((2, 4), dtype=np.float32))) == {first, second}
    assert second.timings.queue_s == 0
    third = same(bench, (math.inf, 0))[0]
    bench.admit(third)
    assert bench.step() == [third]


def test_two_texts_of_a_request_with_the_same_tokens_are_computed_once() -> None:
    bench = Bench()
    prompt = Prompt(ids("a", 3), ids("x", 10))
    twice = ScoreWork([prompt, prompt])
    bench.admit(twice)
    assert bench.scheduler.num_waiting_documents == 1
    bench.served()
    assert twice.is_scored


def test_what_is_being_tokenised_counts() -> None:
    bench = Bench()
    bench.scheduler.num_reserved_tokens = 9_990
    with pytest.raises(OverloadedError, match="9990 tokens are waiting; this request of 11 is refused") as refused:
        bench.scheduler.check(Load(11), Terms())
    assert refused.value.retry_after_s == 1
    with pytest.raises(DeadlineUnmeetableError):
        bench.scheduler.check(Load(1), Terms(bench.clock.now + 9))


def test_retry_after_is_when_the_queue_has_drained_enough() -> None:
    bench = Bench()
    bench.scheduler.num_reserved_tokens = 9_000
    with pytest.raises(OverloadedError) as refused:
        bench.scheduler.check(Load(5_000), Terms())
    assert refused.value.retry_after_s == math.ceil(4_000 * MS + 220 * MS)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("uvwxyz")), min_size=1, max_size=5),
            st.sampled_from((math.inf, 30.0, 80.0, 300.0)),
            st.integers(0, 1),
            st.booleans(),
            st.none() | st.integers(0, 6),
        ),
        max_size=10,
    )
)
def test_with_shared_documents_everybody_is_scored_refused_expired_or_cancelled(
    arrivals: list[tuple[list[tuple[str, str]], float, int, bool, int | None]],
) -> None:
    bench = Bench()
    admitted: dict[ScoreWork, int | None] = {}
    for prompts, ms, priority, partial, cancelled_at in arrivals:
        texts = [Prompt(ids(name, 3), ids(text, 7)) for name, text in prompts]
        one = ScoreWork(texts, Terms(bench.clock.now + ms * MS, priority, partial))
        try:
            bench.admit(one)
        except DeadlineUnmeetableError:
            continue
        admitted[one] = cancelled_at
        bench.step()
        for other, at in admitted.items():
            if at is not None and at <= len(admitted):
                bench.scheduler.remove(other)
    bench.served()
    expired = bench.scheduler.pop_expired()
    for one, cancelled_at in admitted.items():
        assert one.is_scored or one in expired or cancelled_at is not None
    assert (bench.scheduler.num_waiting_documents, bench.scheduler.num_waiting_tokens) == (0, 0)
    assert not any(bench.scheduler.is_awaited(ids(name, 3)) for name in "ab")


def test_a_prediction_that_nobody_tests_does_not_keep_everybody_out() -> None:
    bench = Bench()
    bench.cost.start([(1, 1.0), (2, 2.0)])  # a thousand times too slow
    refused = 0
    for _ in range(20):
        one = bench.work(20, 20, in_ms=400)
        try:
            bench.admit(one)
        except DeadlineUnmeetableError:
            refused += 1
            continue
        break
    assert refused == 7
    bench.served()
    assert one.is_scored, "it is computed whatever the prediction says"


def test_while_the_engine_works_refusals_are_meant() -> None:
    bench = Bench()
    bench.admit(bench.work(*[20] * 30))
    for _ in range(15):
        with pytest.raises(DeadlineUnmeetableError):
            bench.admit(bench.work(20, in_ms=5))
        bench.step()


def test_a_prefix_that_was_computed_is_used_before_the_next_one_is() -> None:
    bench = Bench()
    bench.admit(bench.work(20, name="n"))
    for number in range(5):
        batch = bench.scheduler.next_batch()
        assert batch is not None
        assert isinstance(batch, PrefixBatch) == (number % 2 == 0)
        finish(batch)
        # More urgent, and behind a prefix of its own: again and again it would only ever be prefixes.
        bench.admit(bench.work(20, in_ms=1000 - 100 * number, name="opqrstu"[number]))
