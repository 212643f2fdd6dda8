"""Which explanations share a step: whose turn it is, whoever is of its room, and nobody parted without need."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.base import AnswerKV, PrefixKV, PromptKV, room_for
from relevance.grades import Grade, GradeScale
from relevance.grammar import AnswerGrammar
from service.explaining.choice import AnswerPath
from service.explaining.events import GREEDY
from service.explaining.grouping import AS_A_BATCH, IN_ONE_ROW, StepLimits, choose_streams
from service.explaining.stream import Stream
from service.work import Prompt
from tests.tokenizers import wordpiece_tokenizer

NAMES = ("no", "perfect")
SCALE = GradeScale(grades=tuple(Grade(name=name, gain=gain, label=str(gain)) for gain, name in enumerate(NAMES)))
GRAMMAR = AnswerGrammar(wordpiece_tokenizer(), SCALE).for_pair("usb", "usb", [1], 1)


class Nobody:
    def tell(self, tokens: object, is_last: bool, error: object) -> None:
        raise AssertionError(f"told {tokens}, {is_last}, {error}: nothing is computed here")


def stream(num_document: int = 10, last_step: int = 0, num_next: int = 1, *, has_kv: bool = True) -> Stream:
    path = AnswerPath(GRAMMAR, 5, GREEDY, 100)
    path.next_ids = [5] * num_next
    kv = PromptKV(PrefixKV(2, (), ()), num_document, [], [])
    prompt = Prompt((1, 2), (3,) * num_document)
    return Stream(prompt, path, Nobody(), AnswerKV(kv) if has_kv else None, last_step=last_step)


def test_the_first_goes_and_others_of_its_room_with_it() -> None:
    short, long, other, waiting = stream(10), stream(100), stream(20), stream(10, has_kv=False)
    assert choose_streams([short, long, waiting, other], AS_A_BATCH) == [short, other]
    assert choose_streams([long, short, other], AS_A_BATCH) == [long]


def test_in_a_row_the_room_does_not_matter() -> None:
    streams = [stream(10), stream(100), stream(20), stream(300), stream(1)]
    assert choose_streams(streams, IN_ONE_ROW) == streams[:4]


def test_those_of_one_step_stay_together() -> None:
    limits = StepLimits(max_streams=4, max_tokens=64, max_area=10_000, is_batch=True)
    mine, theirs = [stream(last_step=7) for _ in range(3)], [stream(last_step=8) for _ in range(2)]
    new = stream()
    mixed = [mine[0], theirs[0], new, mine[1], theirs[1], mine[2]]
    # Two of theirs do not fit beside three of mine, and one of them alone does not come.
    assert choose_streams(mixed, limits) == [*mine, new]
    assert choose_streams(mixed[1:], limits) == [*theirs, new]
    # Companies that fit become one.
    assert choose_streams([mine[0], mine[1], *theirs], limits) == [mine[0], mine[1], *theirs]


def test_a_long_run_goes_alone_rather_than_not_at_all() -> None:
    limits = StepLimits(max_streams=4, max_tokens=8, max_area=10_000, is_batch=True)
    long, short = stream(num_next=9), stream()
    assert choose_streams([long, short], limits) == [long]
    assert choose_streams([short, long], limits) == [short]
    # The long run's neighbours are padded to it, behind 64 slots each.
    wide = StepLimits(max_streams=4, max_tokens=64, max_area=3 * 5 * 64, is_batch=True)
    assert len(choose_streams([stream(num_next=number) for number in (1, 5, 1, 1)], wide)) == 3
    in_a_row = StepLimits(max_streams=4, max_tokens=64, max_area=100, is_batch=False)
    assert len(choose_streams([stream(num_document=4) for _ in range(4)], in_a_row)) == 3  # 3 x 3 x 7 slots


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 4), st.integers(1, 9)), min_size=1, max_size=40))
def test_the_first_is_always_in_and_the_limits_hold(found: list[tuple[int, int, int]]) -> None:
    streams = [stream(*one) for one in found]
    for limits in (AS_A_BATCH, IN_ONE_ROW):
        chosen = choose_streams(streams, limits)
        assert chosen[0] is streams[0]
        assert len({id(one) for one in chosen}) == len(chosen)
        assert limits.fit(chosen)
        if limits.is_batch:
            assert {one.room for one in chosen} == {streams[0].room}


def test_rooms_are_steps() -> None:
    rooms = [room_for(number) for number in range(1, 400)]
    assert rooms == sorted(rooms)
    assert all(room >= number for number, room in enumerate(rooms, 1))
    assert np.unique(np.diff(np.unique(rooms))).size == 1
