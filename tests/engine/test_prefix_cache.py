import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.base import PrefixKV
from engine.prefix_cache import PrefixCache


def kv(num_bytes: int) -> PrefixKV:
    array = np.zeros(num_bytes, dtype=np.uint8)
    return PrefixKV(1, (array,), ())


def test_least_recently_used_goes_first() -> None:
    cache = PrefixCache(max_bytes=20)
    first, second = kv(10), kv(10)
    cache.put((1,), first)
    cache.put((2,), second)
    assert cache.get((1,)) is first
    cache.put((3,), kv(10))
    assert cache.get((2,)) is None
    assert cache.get((1,)) is first
    assert (cache.hits, cache.misses) == (2, 1)


def test_one_entry_larger_than_the_cache_is_not_held() -> None:
    cache = PrefixCache(max_bytes=20)
    cache.put((1,), kv(10))
    cache.put((2,), kv(21))
    assert cache.get((2,)) is None
    assert cache.get((1,)) is not None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=50))
def test_bytes_are_counted_and_bounded(puts: list[tuple[int, int]]) -> None:
    cache = PrefixCache(max_bytes=60)
    held: dict[int, int] = {}
    for key, size in puts:
        cache.put((key,), kv(size))
        held[key] = size
        assert cache.num_bytes <= 60
        assert cache.get((key,)) is not None
    assert cache.num_bytes == sum(size for key, size in held.items() if cache.get((key,)) is not None)
