"""KV of scored pairs: every block has an owner."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.base import PrefixKV, PromptKV
from service.explaining.kv_store import KVStore
from service.work import Prompt

PREFIX_BYTES, PAIR_BYTES = 10, 100
PREFIXES = [PrefixKV(1, (np.zeros(PREFIX_BYTES, dtype=np.int8),), ()) for _ in range(3)]


def prompt(number: int) -> Prompt:
    return Prompt((number % 3,), (number,))


def kv(number: int, size: int = PAIR_BYTES) -> PromptKV:
    return PromptKV(PREFIXES[number % 3], 1, [np.zeros(size, dtype=np.int8)], [])


def test_least_recently_used_goes_first_and_a_prefix_counts_once() -> None:
    store = KVStore(2 * PAIR_BYTES + PREFIX_BYTES)
    store.put(prompt(0), kv(0))
    store.put(prompt(3), kv(3))
    assert store.num_bytes == 2 * PAIR_BYTES + PREFIX_BYTES
    store.put(prompt(0), kv(0))  # used again
    store.put(prompt(6), kv(6))
    assert store.take(prompt(3)) is None
    assert store.take(prompt(0)) is not None
    assert store.num_evicted == 1


def test_what_is_pinned_stays_even_over_the_bound() -> None:
    store = KVStore(PAIR_BYTES + PREFIX_BYTES)
    store.put(prompt(0), kv(0))
    assert store.take(prompt(0)) is not None
    store.hold(prompt(1), kv(1))
    assert len(store) == 2
    store.drop(prompt(0))
    assert store.take(prompt(0)) is not None
    store.release(prompt(0))
    store.release(prompt(1))
    assert (len(store), store.num_pins) == (1, 1)
    store.release(prompt(0))
    assert store.num_bytes <= PAIR_BYTES + PREFIX_BYTES


def test_at_0_it_holds_what_explanations_need_and_nothing_else() -> None:
    store = KVStore(0)
    store.put(prompt(0), kv(0))
    assert (len(store), store.is_on) == (0, False)
    store.hold(prompt(0), kv(0))
    assert store.num_bytes == PAIR_BYTES + PREFIX_BYTES
    store.release(prompt(0))
    assert (len(store), store.num_bytes, store.num_pins) == (0, 0, 0)


def test_a_pair_too_large_pushes_nothing_out() -> None:
    store = KVStore(2 * PAIR_BYTES)
    store.put(prompt(0), kv(0))
    store.put(prompt(1), kv(1, 5 * PAIR_BYTES))
    assert store.take(prompt(0)) is not None
    assert store.take(prompt(1)) is None


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["put", "take", "hold", "drop", "release"]), st.integers(0, 8)), max_size=80
)


@given(ACTIONS, st.integers(0, 500))
def test_bytes_are_those_of_what_it_holds_and_pins_are_given_back(
    actions: list[tuple[str, int]], max_bytes: int
) -> None:
    store = KVStore(max_bytes)
    pins: list[int] = []
    for action, number in actions:
        if action == "put":
            store.put(prompt(number), kv(number))
        elif action == "take":
            pins += [number] if store.take(prompt(number)) is not None else []
        elif action == "hold":
            store.hold(prompt(number), kv(number))
            pins.append(number)
        elif action == "drop":
            store.drop(prompt(number))
        elif number in pins:
            pins.remove(number)
            store.release(prompt(number))
        held = [entry for entry in range(9) if prompt(entry) in store._entries]
        assert store.num_bytes == PAIR_BYTES * len(held) + PREFIX_BYTES * len({one % 3 for one in held})
        assert set(pins) <= set(held)
        assert store.num_bytes <= max(max_bytes, (PAIR_BYTES + PREFIX_BYTES) * len(set(pins)))
    for number in pins:
        store.release(prompt(number))
    assert store.num_pins == 0
    assert store.num_bytes <= max_bytes
