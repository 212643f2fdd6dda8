"""The collectors: buckets suit a service that answers in milliseconds; grades are counted by name."""

import numpy as np

from service.metrics import STAGE_BUCKETS_S, Metrics


def test_stage_buckets_are_geometric_from_100_microseconds() -> None:
    ratios = np.array(STAGE_BUCKETS_S[1:]) / np.array(STAGE_BUCKETS_S[:-1])
    assert STAGE_BUCKETS_S[0] == 1e-4
    np.testing.assert_allclose(ratios, np.sqrt(2), rtol=1e-2)  # bounds are rounded to 100 ns
    assert STAGE_BUCKETS_S[-1] > 10


def test_grades_are_counted_by_name() -> None:
    metrics = Metrics(["no", "yes"], ["ok"], {"name": "fake"})
    metrics.count_grades(np.array([1, 1, 0, 1]))
    metrics.count_grades(np.array([1]))
    assert b'relevance_grades_total{grade="no"} 1.0' in metrics.render()
    assert b'relevance_grades_total{grade="yes"} 4.0' in metrics.render()
