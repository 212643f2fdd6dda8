"""Figures and workloads of the peer benchmark, by table."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.figures import agreement, groups_by_memory, nearest_rank, time_figures
from benchmarks.peers.workloads import draw, graded_workloads, read_texts, timed_workloads


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.99, 3.0),  # the slowest of few
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([5.0], 0.5, 5.0),
        (list(range(1, 201)), 0.99, 198),
        (list(range(1, 201)), 0.5, 100),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert nearest_rank(values, share) == expected


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        nearest_rank([], 0.5)


def test_what_a_second_does_is_of_the_median() -> None:
    found = time_figures([0.2, 0.1, 0.9], num_documents=10, num_tokens=500)
    assert found == {"median_ms": 200.0, "p99_ms": 900.0, "documents_per_s": 50.0, "tokens_per_s": 2500.0}


def test_agreement_is_of_distributions_and_likeliest_grades() -> None:
    reference = np.log(np.array([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5]], dtype=np.float32))
    found = np.log(np.array([[0.4, 0.6], [0.8, 0.2], [0.5, 0.5]], dtype=np.float32))
    figures = agreement(found, reference)
    assert figures["num_pairs"] == 3
    assert figures["mean_difference"] == pytest.approx((0.2 + 0.1 + 0.0) / 3)
    assert figures["max_difference"] == pytest.approx(0.2)
    assert figures["grade_flips"] == pytest.approx(1 / 3)


def test_a_temperature_is_taken_by_both() -> None:
    found, reference = np.array([[0.0, 2.0]], dtype=np.float32), np.array([[0.0, 0.0]], dtype=np.float32)
    assert agreement(found, reference, 2.0)["max_difference"] == pytest.approx(1 / (1 + np.exp(-1)) - 0.5)


@pytest.mark.parametrize(
    ("sizes", "limit", "always", "expected"),
    [
        ([("a", 1.0), ("b", 1.0), ("c", 1.0)], 10.0, 1.0, [["a", "b", "c"]]),
        ([("a", 3.0), ("b", 3.0), ("c", 3.0)], 8.0, 1.0, [["a", "b"], ["c"]]),
        ([("a", 20.0), ("b", 1.0)], 8.0, 1.0, [["a"], ["b"]]),  # too large for any group: alone
        ([], 8.0, 1.0, []),
    ],
)
def test_groups_fit_into_memory_beside_ours(
    sizes: list[tuple[str, float]], limit: float, always: float, expected: list[list[str]]
) -> None:
    assert groups_by_memory(sizes, limit, always) == expected


@pytest.fixture
def pair_file(tmp_path: Path) -> Path:
    path = tmp_path / "homedepot" / "test.jsonl.gz"
    path.parent.mkdir()
    rows = [{"query": f"q{place % 3}", "document": f"d{place // 2}", "grade": 0} for place in range(24)]
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_a_workload_starts_with_the_querys_own_documents_and_repeats_none(pair_file: Path) -> None:
    texts = read_texts(pair_file)
    found = draw("short", texts, 11, seed=4)
    own = len(texts[found.query])
    assert set(found.documents[:own]) == set(texts[found.query])
    assert len(set(found.documents)) == 11
    assert draw("short", texts, 11, seed=4) == found


def test_more_documents_than_there_are_is_an_error(pair_file: Path) -> None:
    with pytest.raises(ValueError, match="12 documents, 13 wanted"):
        draw("short", read_texts(pair_file), 13, seed=0)


def test_workloads_are_named_by_set_and_size_and_graded_ones_differ(pair_file: Path) -> None:
    (timed,) = timed_workloads([pair_file], [5])
    assert (timed.name, len(timed.documents)) == ("homedepot x 5", 5)
    graded = graded_workloads([pair_file], num_queries=6, num_documents=2)
    assert [len(one.documents) for one in graded] == [2] * 6
    assert len({(one.query, one.documents) for one in graded}) > 1
