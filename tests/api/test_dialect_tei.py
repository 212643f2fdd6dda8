"""POST /rerank with texts, POST /predict, GET /info."""

import math
import re
from typing import Any

import numpy as np
import pytest

from relevance.pair import Pair
from relevance.scoring import expected_score
from service.settings import Settings
from service.version import VERSION
from tests.api.conftest import Serve, Service
from tests.fakes import GRADE_NAMES, MAX_TOKENS, expected_distribution, fake_artifact

QUERY = "usb c cable"
TEXTS = ["USB-C to USB-C 1 m", "HDMI cable", "socks"]
BODY = {"query": QUERY, "texts": TEXTS}


async def rerank(service: Service, **options: Any) -> Any:
    response = await service.client.post("/rerank", json={**BODY, **options})
    assert response.status_code == 200, response.text
    return response.json()


def score_of(text: str) -> float:
    return float(expected_score(expected_distribution(Pair(QUERY, text))))


async def test_a_bare_list_of_all_texts_best_first(service: Service) -> None:
    ranks = await rerank(service, top_n=1)
    assert [set(one) for one in ranks] == [{"index", "score"}] * 3
    assert ranks == sorted(ranks, key=lambda one: -one["score"])


async def test_text_comes_on_request(service: Service) -> None:
    assert all(one["text"] == TEXTS[one["index"]] for one in await rerank(service, return_text=True))


async def test_native_extras_come_on_request(service: Service) -> None:
    for one in await rerank(service, native=True):
        assert one["native"]["distribution"] == expected_distribution(Pair(QUERY, TEXTS[one["index"]])).tolist()


async def test_raw_scores_are_log_odds_in_the_same_order(service: Service) -> None:
    ranks, raw = await rerank(service), await rerank(service, raw_scores=True)
    assert [one["index"] for one in raw] == [one["index"] for one in ranks]
    sigmoid = [1 / (1 + math.exp(-one["score"])) for one in raw]
    np.testing.assert_allclose(sigmoid, [one["score"] for one in ranks], rtol=1e-12)  # exp and log, float64


async def test_times_are_whole_milliseconds_in_the_headers(service: Service) -> None:
    headers = (await service.client.post("/rerank", json=BODY)).headers
    for name in ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
        assert re.fullmatch(r"\d+", headers[name])
    assert headers["x-compute-characters"] == str(sum(len(QUERY) + len(text) for text in TEXTS))
    assert headers["x-compute-tokens"] == str(len(QUERY) + 1 + sum(len(text) + 2 for text in TEXTS))


@pytest.mark.parametrize("direction", ["Right", "right", "RIGHT", None])
async def test_the_end_is_cut(service: Service, direction: str | None) -> None:
    room = MAX_TOKENS - (len(QUERY) + 1) - 2
    (one,) = await rerank(service, texts=["a" * room + "b" * 50], truncate=True, truncation_direction=direction)
    assert one["score"] == score_of("a" * room)


@pytest.mark.parametrize("direction", ["Left", "left"])
@pytest.mark.parametrize("num_more", [1, 50, 100_000])
async def test_the_start_is_cut(service: Service, direction: str, num_more: int) -> None:
    room = MAX_TOKENS - (len(QUERY) + 1) - 2
    (one,) = await rerank(service, texts=["b" * num_more + "a" * room], truncation_direction=direction)
    assert one["score"] == score_of("a" * room)


async def test_nothing_is_cut_where_that_is_forbidden(service: Service) -> None:
    assert len(await rerank(service, truncate=False)) == 3
    texts = ["short", "x" * 1000]
    response = await service.client.post("/rerank", json={**BODY, "texts": texts, "truncate": False})
    assert response.status_code == 422
    assert response.json()["error_type"] == "Validation"
    assert "document 1 is longer" in response.json()["error"]
    response = await service.client.post("/rerank", json={**BODY, "query": "q" * 100, "truncate": False})
    assert response.status_code == 422
    assert "the query is longer" in response.json()["error"]
    assert len(service.engine.packs) == 1, "what is refused is not computed"


async def test_predict_gives_every_grade_of_a_pair(service: Service) -> None:
    response = await service.client.post("/predict", json={"inputs": [QUERY, TEXTS[0]], "parameters": {}})
    expected = expected_distribution(Pair(QUERY, TEXTS[0]))
    predictions = response.json()
    assert {one["label"]: one["score"] for one in predictions} == dict(zip(GRADE_NAMES, expected.tolist(), strict=True))
    assert predictions == sorted(predictions, key=lambda one: -one["score"])
    raw = (await service.client.post("/predict", json={"inputs": [QUERY, TEXTS[0]], "raw_scores": True})).json()
    assert [math.exp(one["score"]) for one in raw] == pytest.approx([one["score"] for one in predictions], rel=1e-12)
    assert "x-total-time" in response.headers


async def test_predict_takes_a_list_of_pairs(service: Service) -> None:
    alone = [(await service.client.post("/predict", json={"inputs": [QUERY, text]})).json() for text in TEXTS]
    together = await service.client.post("/predict", json={"inputs": [[QUERY, text] for text in TEXTS]})
    assert together.json() == alone


@pytest.mark.parametrize(
    "inputs", ["one text", ["one text"], ["a", "b", "c"], [["a"]], [["a", "b", "c"]], [[" ", "d"]], 7]
)
async def test_predict_needs_pairs(service: Service, inputs: Any) -> None:
    response = await service.client.post("/predict", json={"inputs": inputs})
    assert response.status_code == 422
    assert response.json()["error_type"] == "Validation"


@pytest.mark.parametrize(("path", "body"), [("/rerank", {"query": "q", "texts": []}), ("/predict", {"inputs": []})])
async def test_nothing_to_score_is_empty(service: Service, path: str, body: dict[str, Any]) -> None:
    response = await service.client.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error_type"] == "Empty"


async def test_info_tells_the_limits_that_are_kept(serve: Serve) -> None:
    async with serve(Settings(max_documents=7, max_pack_tokens=64, max_waiting_tokens=1000)) as service:
        info = (await service.client.get("/info")).json()
    assert info["model_id"] == "fake"
    assert info["model_sha"] == fake_artifact().hash
    assert info["model_dtype"] == "float32"
    assert info["model_type"]["reranker"]["id2label"] == {str(n): name for n, name in enumerate(GRADE_NAMES)}
    assert info["max_client_batch_size"] == 7
    assert info["max_batch_tokens"] == 64
    assert info["max_input_length"] == MAX_TOKENS
    assert info["max_concurrent_requests"] == 7
    assert info["auto_truncate"] is True
    assert info["version"] == VERSION
