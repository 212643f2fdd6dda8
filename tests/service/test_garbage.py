"""What lives is frozen, and pauses are counted in cumulative buckets."""

import gc

from prometheus_client import CollectorRegistry

from service import garbage
from service.garbage import PAUSE_BUCKETS_S, GcPauses


def test_frozen_objects_are_not_walked_again() -> None:
    kept = [[number] for number in range(100)]
    gc.unfreeze()
    garbage.freeze()
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    assert frozen > len(kept)


def test_pauses_are_measured_while_started() -> None:
    registry = CollectorRegistry()
    pauses = GcPauses(registry)

    def count() -> float | None:
        return registry.get_sample_value("relevance_gc_pause_seconds_count", {"generation": "2"})

    gc.collect()
    assert count() == 0
    pauses.start()
    gc.collect()
    gc.collect()
    pauses.stop()
    gc.collect()
    assert count() == 2
    pauses.stop()  # twice is once


def test_buckets_are_cumulative() -> None:
    registry = CollectorRegistry()
    pauses = GcPauses(registry)
    for pause_s in (0.0, PAUSE_BUCKETS_S[0], PAUSE_BUCKETS_S[0] * 1.01, 1000.0):
        pauses.record(1, pause_s)

    def below(bound: str) -> float | None:
        return registry.get_sample_value("relevance_gc_pause_seconds_bucket", {"generation": "1", "le": bound})

    assert [below(str(PAUSE_BUCKETS_S[0])), below(str(PAUSE_BUCKETS_S[1])), below(str(PAUSE_BUCKETS_S[-1]))] == [
        2,
        3,
        3,
    ]
    assert below("+Inf") == 4
    total = registry.get_sample_value("relevance_gc_pause_seconds_sum", {"generation": "1"})
    assert total is not None
    assert abs(total - (1000 + 2.01 * PAUSE_BUCKETS_S[0])) < 1e-9
