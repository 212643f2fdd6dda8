"""Explanations over ONNX Runtime: the same alone, among 32, resumed and computed once more; and they hold."""

import asyncio
from pathlib import Path

import pytest

from engine.ort import OrtEngine
from relevance.artifact import Artifact, load_artifact
from relevance.explanation import Explanation, check
from relevance.pair import Pair
from service.explaining.events import ExplanationRequest, Sampling
from tests.service.explaining.conftest import Explained, running

ROOT = Path(__file__).parents[3]
DOCUMENTS = (
    "USB-C to USB-C cable, 1 m, 60 W, braided",
    "For a soft yolk, simmer the egg for six minutes; for a firm one, ten. Put it into cold water afterwards.",
    "a",
    "HDMI cable " * 25,
)
PAIRS = [
    Pair(query, f"{document} {number}")
    for number in range(4)
    for query in ("usb c cable 2 m", "how long to boil an egg")
    for document in DOCUMENTS
]


@pytest.fixture(scope="module", params=["tests/data/tiny_artifact", "artifacts/default"])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    return load_artifact(ROOT / request.param)


async def explain_all(artifact: Artifact, *, keeps_kv: bool, together: bool) -> list[Explained]:
    async with running(artifact, lambda: OrtEngine(artifact, num_threads=1), explain_kv_mib=64) as model:
        # The default is for its arithmetic, in int8; 32 of its size would only be slow.
        pairs = PAIRS if artifact.manifest.name == "tiny" else PAIRS[:8]
        grades = [await model.grade(pair, keeps_kv=keeps_kv) for pair in pairs]
        requests = [
            ExplanationRequest(pair, grade, sampling=Sampling(temperature=0.7, seed=number))
            for number, (pair, grade) in enumerate(zip(pairs, grades, strict=True))
        ]
        if together:
            found = list(await asyncio.gather(*(model.explain(one) for one in requests)))
        else:
            found = [await model.explain(one) for one in requests[:4]]
        model.assert_nothing_held()
    for one, pair, grade in zip(found, PAIRS, grades, strict=False):
        assert one.done.resumed is keeps_kv
        assert one.values["verdict"] == grade
        quotes = one.values["evidence"]
        assert isinstance(quotes, list)
        assert all(quote in pair.document for quote in quotes)
        assert check(Explanation.from_json(one.values), pair.query, pair.document, grade) == []
    return found


async def test_the_same_alone_among_32_resumed_and_computed_once_more(artifact: Artifact) -> None:
    among_32 = await explain_all(artifact, keeps_kv=True, together=True)
    alone = await explain_all(artifact, keeps_kv=False, together=False)
    assert [one.values for one in alone] == [one.values for one in among_32[:4]]
    assert len({str(one.values) for one in among_32}) > 4
