"""KV that stays where the graph runs: the numbers of `engine.ort`, by other ways. Here the device is the processor."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from engine.base import AnswerKV, AnswerWork, DocumentWork, Engine
from engine.bound import BoundEngine, DeviceArray
from engine.local import LocalScorer, self_test
from engine.ort import OrtEngine
from engine.session import GraphSession
from relevance.artifact import Artifact, load_artifact
from relevance.pair import Pair

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"
PREFIXES = ((2, 31, 90), (2, 45, 46, 47, 48))
DOCUMENTS = ((50, 51, 3), (52, 3), (53, 54, 55, 56, 3), (57, 3))


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return load_artifact(TINY)


@pytest.fixture(scope="module")
def here(artifact: Artifact) -> Iterator[Engine]:
    engine = OrtEngine(artifact, num_threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def bound(artifact: Artifact) -> Iterator[Engine]:
    engine = BoundEngine(artifact, GraphSession(artifact, num_threads=1), "cpu")
    yield engine
    engine.close()


def work_of(engine: Engine, *, keeps_kv: bool = False) -> list[DocumentWork]:
    """Documents by turns behind two prefixes."""
    prefixes = engine.prefill_prefixes(PREFIXES)
    return [DocumentWork(prefixes[index % 2], ids, keeps_kv) for index, ids in enumerate(DOCUMENTS)]


def test_scores_are_those_of_the_other_engine(here: Engine, bound: Engine) -> None:
    # The tiny artifact is float32: four documents in one row, or two in each of two, are added up in another order.
    expected, found = here.score_documents(work_of(here)), bound.score_documents(work_of(bound))
    assert np.abs(found - expected).max() <= 1e-5
    assert len({tuple(row) for row in expected.tolist()}) == len(DOCUMENTS)


def test_a_prefix_stays_on_the_device_and_knows_its_size(here: Engine, bound: Engine) -> None:
    (expected,), (found,) = here.prefill_prefixes(PREFIXES[:1]), bound.prefill_prefixes(PREFIXES[:1])
    assert found.num_tokens == expected.num_tokens
    assert found.num_bytes == expected.num_bytes
    for mine, other in zip((*found.keys, *found.values), (*expected.keys, *expected.values), strict=True):
        assert isinstance(mine, DeviceArray)
        assert np.array_equal(np.asarray(mine), np.asarray(other))


def test_scoring_reads_nothing_of_a_prefix_back(bound: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_of(bound)
    values = {id(array.value) for one in work for array in one.prefix.keys if isinstance(array, DeviceArray)}
    numpy = onnxruntime.OrtValue.numpy
    read: list[int] = []

    def spy(value: onnxruntime.OrtValue) -> np.ndarray:
        read.append(id(value))
        return numpy(value)

    monkeypatch.setattr(onnxruntime.OrtValue, "numpy", spy)
    bound.score_documents(work)
    assert read, "the logits are read"
    assert not values & set(read)


def test_explanations_go_on_from_a_prefix_on_the_device(here: Engine, bound: Engine) -> None:
    logits = []
    for engine in (here, bound):
        _, kept = engine.keep_documents(work_of(engine, keeps_kv=True))
        answers = [AnswerKV(one) for one in kept if one is not None]
        first = engine.extend_answers([AnswerWork(one, [60 + place]) for place, one in enumerate(answers)])
        second = engine.extend_answers([AnswerWork(one, [70]) for one in answers])
        logits.append(np.stack([first, second]))
    assert np.abs(logits[0] - logits[1]).max() <= 1e-4  # as above


def test_it_passes_the_self_test_and_counts_its_tokens(artifact: Artifact) -> None:
    engine = BoundEngine(artifact, GraphSession(artifact, num_threads=1), "cpu")
    assert self_test(artifact, engine) <= 1e-5
    before = engine.num_row_tokens
    LocalScorer(artifact, engine).distributions([Pair("usb cable", "a cable"), Pair("usb cable", "tea")])
    assert engine.num_row_tokens > before
    engine.close()
