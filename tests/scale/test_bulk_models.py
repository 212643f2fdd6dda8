"""What scores a unit: the engine's own numbers, explanations of the grades given, and how many engines there are."""

import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra `scale` is not installed")

from engine.local import LocalScorer
from relevance.artifact import Artifact, Target
from relevance.pair import Pair
from relevance.scoring import most_likely_grade
from scale.bulk import Engines, Pool, Room, pool_for, with_cost
from scale.bulk_errors import BulkError
from scale.bulk_model import open_model
from tests.scale.bulk_fakes import TINY, tiny

PAIRS = [Pair("usb cable", f"the usb cable is good {i}") for i in range(5)] + [Pair("egg", "an egg")]


def test_scores_are_those_of_one_engine_and_tokens_are_counted() -> None:
    model, scorer = open_model(TINY, 1, explain=False), LocalScorer.open(TINY, num_threads=1)
    judged = model.judge(PAIRS)
    assert judged.distributions.tolist() == scorer.distributions(PAIRS).tolist()
    assert judged.explanations == [None] * len(PAIRS)
    once = model.num_tokens
    assert once > 0
    model.judge(PAIRS)
    assert model.num_tokens == 2 * once
    scorer.close()


def test_each_grade_is_explained_and_the_verdict_is_the_grade() -> None:
    judged = open_model(TINY, 1, explain=True).judge(PAIRS)
    grades = most_likely_grade(judged.distributions).tolist()
    for grade, explanation in zip(grades, judged.explanations, strict=True):
        assert explanation is not None
        steps = json.loads(explanation)
        assert next(iter(steps)) == "wants"
        assert steps["verdict"] == grade


def like(hidden_size: int, target: Target = "cpu") -> Artifact:
    artifact = tiny()
    graph = artifact.manifest.graph.model_copy(update={"hidden_size": hidden_size})
    return replace(artifact, manifest=artifact.manifest.model_copy(update={"graph": graph, "target": target}))


@pytest.mark.parametrize(
    ("hidden_size", "engines", "room", "expected"),
    [
        (384, Engines(), Room(4, 4, 0), Pool(4, 1, 1)),
        (384, Engines(), Room(64, 32, 0), Pool(64, 1, 1)),
        (1024, Engines(), Room(64, 32, 0), Pool(2, 32, 32)),
        (1024, Engines(threads=8), Room(64, 32, 0), Pool(8, 8, 8)),
        (384, Engines(actors=3, threads=2), Room(4, 4, 0), Pool(3, 2, 4 / 3)),
        (1024, Engines(threads=8), Room(4, 4, 0), Pool(1, 8, 4)),
    ],
)
def test_engines_fill_the_cores(hidden_size: int, engines: Engines, room: Room, expected: Pool) -> None:
    assert pool_for(like(hidden_size), engines, room) == expected


def test_an_artifact_for_a_gpu_takes_one_each_or_says_that_there_is_none() -> None:
    assert pool_for(like(1024, "cuda"), Engines(), Room(16, 16, 2)) == Pool(2, 1, 1, gpus=1)
    with pytest.raises(BulkError, match="no GPU"):
        pool_for(like(1024, "cuda"), Engines(), replace(Room(16, 16, 2), gpus=0))
    assert pool_for(tiny(), Engines(), Room(2, 2, 0)) == Pool(2, 1, 1)


def test_cost_is_time_times_price() -> None:
    report: dict[str, Any] = {"seconds_this_run": 1800.0, "rows_this_run": 500_000}
    priced = with_cost(report, 0.4)
    assert (priced["cost_this_run"], priced["cost_per_million_documents"]) == (0.2, 0.4)
    assert with_cost({**report, "rows_this_run": 0}, 0.4)["cost_per_million_documents"] is None
