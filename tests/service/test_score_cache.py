"""The score cache: what its keys tell apart, what it gives back, what it lets go of."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.pair import Pair
from service.score_cache import ENTRY_BYTES, PairRecord, ScoreCache, keys_of
from service.tokenise import DEFAULT_CUT, Cut

HASH = "a" * 64


def record(value: float = 1.0) -> PairRecord:
    return PairRecord(np.array([value, -2.5, 1e-7, 30.0], dtype=np.float32), 12, 500, True, False)


def test_a_record_comes_back_to_the_bit() -> None:
    one = record(0.1)
    again = PairRecord.unpack(one.pack(), 4)
    assert again is not None
    assert again.label_logits.tobytes() == one.label_logits.tobytes()
    assert (again.num_prefix_tokens, again.num_document_tokens) == (12, 500)
    assert (again.truncated, again.query_truncated) == (True, False)


@pytest.mark.parametrize("value", [b"", b"x" * 20, record().pack() + b"1", record(float("nan")).pack()])
def test_what_is_no_record_is_none(value: bytes) -> None:
    assert PairRecord.unpack(value, 4) is None


def test_everything_a_score_depends_on_is_in_the_key() -> None:
    base = (HASH, Pair("q", "d", None), DEFAULT_CUT)
    others = [
        ("b" * 64, Pair("q", "d", None), DEFAULT_CUT),
        (HASH, Pair("q2", "d", None), DEFAULT_CUT),
        (HASH, Pair("q", "d2", None), DEFAULT_CUT),
        (HASH, Pair("q", "d", ""), DEFAULT_CUT),
        (HASH, Pair("q", "d", "strict"), DEFAULT_CUT),
        (HASH, Pair("q", "d", None), Cut(max_document_tokens=3)),
        (HASH, Pair("q", "d", None), Cut(keep="end")),
    ]
    keys = [keys_of(one, [pair], cut)[0] for one, pair, cut in [base, *others]]
    assert len(set(keys)) == len(keys)
    assert keys_of(HASH, [Pair("q", "d", None)], Cut(is_allowed=False)) == keys[:1], "the score is the same"
    assert keys_of(HASH, [Pair("x", "y"), base[1]], DEFAULT_CUT)[1] == keys[0], "whatever it is asked with"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=6), st.text(max_size=6), st.none() | st.text(max_size=3)), max_size=8, unique=True
    )
)
def test_no_two_pairs_share_a_key(pairs: list[tuple[str, str, str | None]]) -> None:
    keys = keys_of(HASH, [Pair(*one) for one in pairs], DEFAULT_CUT)
    assert len(set(keys)) == len(pairs)


def test_the_least_recently_used_goes_first() -> None:
    size = len(record().pack()) + ENTRY_BYTES
    cache = ScoreCache(3 * size + 5)
    keys = [bytes([n]) * 16 for n in range(5)]
    cache.put((key, record().pack()) for key in keys[:3])
    assert cache.get([keys[0]]) != [None]
    cache.put([(keys[3], record().pack())])
    assert [value is not None for value in cache.get(keys)] == [True, False, True, True, False]
    cache.put([(keys[3], record().pack())])
    assert (len(cache), cache.num_bytes) == (3, 3 * size)


def test_nothing_is_kept_where_nothing_may_be() -> None:
    cache = ScoreCache(0)
    cache.put([(b"k" * 16, record().pack())])
    assert (len(cache), cache.num_bytes, cache.is_on) == (0, 0, False)


def test_the_bound_is_about_the_memory_it_takes() -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    cache = ScoreCache(2**20)
    tracemalloc.start()
    for number in itertools.count():
        cache.put([(number.to_bytes(16, "little"), record().pack())])
        if len(cache) < number:
            break
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 * 2**20 < taken < 1.1 * 2**20
