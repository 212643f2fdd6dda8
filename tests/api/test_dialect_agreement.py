"""One model, many wire formats: the same pairs get the same scores and the same order in all of them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from relevance.pair import Pair
from relevance.scoring import expected_score
from service.dialect import Entry
from service.dialects import discover
from service.dispatch import Dispatch
from tests.api.conftest import Service
from tests.fakes import expected_distribution, fake_artifact

QUERY = "usb c cable"
# Equal documents tie; the first must stay first.
DOCUMENTS = ["HDMI cable", "USB-C to USB-C 1 m", "", "HDMI cable", "wool socks", "ünïcode 日本語"]
EXPECTED = [float(expected_score(expected_distribution(Pair(QUERY, document)))) for document in DOCUMENTS]
RANKING = sorted(range(len(DOCUMENTS)), key=lambda index: -EXPECTED[index])
LABELS = list(fake_artifact().manifest.label_token_ids)

Read = Callable[[Any], dict[int, float]]


def of_results(answer: Any) -> dict[int, float]:
    return {result["index"]: result["relevance_score"] for result in answer["results"]}


def of_data(answer: Any) -> dict[int, float]:
    return {one["index"]: one["score"] for one in answer["data"]}


def of_probabilities(answer: Any) -> dict[int, float]:
    return {index: float(expected_score(row)) for index, row in enumerate(answer["scores"])}


def of_predictions(answer: Any) -> dict[int, float]:
    names = fake_artifact().manifest.spec.scale.names
    rows = [{one["label"]: one["score"] for one in predictions} for predictions in answer]
    return {index: float(expected_score([row[name] for name in names])) for index, row in enumerate(rows)}


def of_native(answer: Any) -> dict[int, float]:
    return {result["index"]: result["score"] for result in answer["results"]}


def of_ranks(answer: Any) -> dict[int, float]:
    return {one["index"]: one["score"] for one in answer}


RERANK = {"query": QUERY, "documents": DOCUMENTS}
REQUESTS: list[tuple[str, dict[str, Any], Read, bool]] = [
    ("/score", RERANK, of_native, False),
    ("/v2/rerank", {"model": "rerank-v3.5", **RERANK}, of_results, True),
    ("/v1/rerank", RERANK, of_results, True),
    ("/rerank", RERANK, of_results, True),
    ("/rerank", {"query": QUERY, "texts": DOCUMENTS}, of_ranks, True),
    ("/predict", {"inputs": [[QUERY, document] for document in DOCUMENTS]}, of_predictions, False),
    ("/score", {"queries": QUERY, "documents": DOCUMENTS}, of_data, False),
    ("/score", {"text_1": QUERY, "text_2": DOCUMENTS}, of_data, False),
    ("/v1/score", {"data_1": [QUERY] * len(DOCUMENTS), "data_2": DOCUMENTS}, of_data, False),
    ("/v1/score", {"queries": [QUERY], "items": DOCUMENTS}, of_data, False),
    ("/score", {"query": QUERY, "items": DOCUMENTS, "label_token_ids": LABELS}, of_probabilities, False),
    ("/v1/score", {"query": QUERY, "items": DOCUMENTS, "label_token_ids": LABELS}, of_probabilities, False),
    ("/invocations", {"pairs": [{"query": QUERY, "document": text} for text in DOCUMENTS]}, of_native, False),
    ("/invocations", RERANK, of_results, True),
    ("/invocations", {"query": QUERY, "texts": DOCUMENTS}, of_ranks, True),
    ("/invocations", {"inputs": [[QUERY, document] for document in DOCUMENTS]}, of_predictions, False),
    ("/invocations", {"queries": QUERY, "documents": DOCUMENTS}, of_data, False),
    ("/invocations", {"query": QUERY, "items": DOCUMENTS, "label_token_ids": LABELS}, of_probabilities, False),
]


@pytest.mark.parametrize(("path", "body", "read", "is_ranked"), REQUESTS)
async def test_scores_and_order_are_those_of_the_model(
    service: Service, path: str, body: dict[str, Any], read: Read, is_ranked: bool
) -> None:
    response = await service.client.post(path, json=body)
    assert response.status_code == 200, response.text
    scores = read(response.json())
    assert list(scores) == (RANKING if is_ranked else list(range(len(DOCUMENTS))))
    # Same float64 arithmetic; from probabilities the sum is taken again.
    np.testing.assert_allclose([scores[index] for index in range(len(DOCUMENTS))], EXPECTED, rtol=0, atol=1e-12)
    _, entry = Dispatch(discover()).match(path, body)
    TypeAdapter(entry.answer).validate_python(response.json(), strict=True)
    assert "infer;dur=" in response.headers["server-timing"]
    assert len(service.engine.prefills) == 1, "one prefill for the one query"
    assert sum(map(len, service.engine.packs)) == len(set(DOCUMENTS)), "equal documents are computed once"


async def test_equal_documents_tie_exactly_wherever_they_stand(service: Service) -> None:
    for number in range(2, 40):
        documents = [f"document {n % 5}" for n in range(number)]
        results = (await service.client.post("/v2/rerank", json={"query": QUERY, "documents": documents})).json()[
            "results"
        ]
        scores = of_results({"results": results})
        assert [scores[n] for n in range(number)] == [scores[n % 5] for n in range(number)]
        for first, second in pairwise(results):
            if first["relevance_score"] == second["relevance_score"]:
                assert first["index"] < second["index"]


def test_every_entry_of_every_dialect_takes_part() -> None:
    dispatch = Dispatch(discover())
    taken = {(path, id(dispatch.match(path, body)[1])) for path, body, _, _ in REQUESTS}
    offered = {(path, id(entry)) for path in dispatch.paths for _, entry in dispatch.entries(path)}
    assert taken == offered


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_every_number_that_is_a_double_is_written_as_one(service: Service, path: str) -> None:
    # OpenSearch casts to Double without asking: a score of exactly 1 must be written 1.0.
    text = (await service.client.post(path, json=RERANK)).text
    assert '"search_units":1.0' in text
    for result in text.split('"relevance_score":')[1:]:
        assert "." in result.partition("}")[0]


async def test_requests_are_counted_by_dialect(service: Service) -> None:
    for path, body, _, _ in REQUESTS:
        await service.client.post(path, json=body)
    counts = {
        name: await service.metric(f'relevance_dialect_requests_total{{dialect="{name}"}}')
        for name in ("native", "cohere", "jina", "tei", "vllm", "sglang")
    }
    assert counts == {"native": 2, "cohere": 1, "jina": 3, "tei": 4, "vllm": 5, "sglang": 3}


def test_an_entry_names_its_models() -> None:
    entries: list[Entry] = [entry for dialect in discover() for entry in dialect.entries]
    assert all(entry.requests and entry.summary for entry in entries)
