"""POST /v1/rerank, and POST /rerank with documents."""

from typing import Any

import pytest

from tests.api.conftest import Service

BODY = {"query": "usb c cable", "documents": ["USB-C to USB-C 1 m", "HDMI cable", "socks"]}
PATHS = pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/invocations"])


@PATHS
async def test_the_answer_serves_jina_cohere_v1_vllm_and_infinity(service: Service, path: str) -> None:
    answer = (await service.client.post(path, json={**BODY, "model": "m"})).json()
    assert set(answer) == {"id", "object", "model", "created", "usage", "results", "meta"}
    assert answer["object"] == "rerank"
    assert answer["model"] == "fake"
    assert isinstance(answer["created"], int)
    tokens = len(BODY["query"]) + 1 + sum(len(text) + 2 for text in BODY["documents"])
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert answer["meta"]["api_version"] == {"version": "1"}
    assert all(set(result) == {"index", "relevance_score"} for result in answer["results"])


@pytest.mark.parametrize("wanted", [True, "true", 1])
async def test_a_document_is_an_object_and_comes_on_request(service: Service, wanted: Any) -> None:
    answer = (await service.client.post("/v1/rerank", json={**BODY, "return_documents": wanted})).json()
    for result in answer["results"]:
        assert result["document"] == {"text": BODY["documents"][result["index"]]}


@pytest.mark.parametrize("unwanted", [False, "false", None])
async def test_a_document_is_never_null(service: Service, unwanted: Any) -> None:
    answer = (await service.client.post("/v1/rerank", json={**BODY, "return_documents": unwanted})).json()
    assert all("document" not in result for result in answer["results"])


async def test_vllms_and_infinitys_options(service: Service) -> None:
    options = {"truncate_prompt_tokens": -1, "raw_scores": False, "top_k": 2}
    answer = (await service.client.post("/rerank", json={**BODY, **options})).json()
    plain = (await service.client.post("/rerank", json=BODY)).json()
    assert answer["results"] == plain["results"][:2]
    assert answer["meta"]["warnings"] == ["unknown field 'raw_scores' was ignored"]
    shorter = (await service.client.post("/rerank", json={**BODY, "truncate_prompt_tokens": 3})).json()
    documents = [text[:3] for text in BODY["documents"]]
    assert (
        shorter["results"]
        == (await service.client.post("/rerank", json={**BODY, "documents": documents})).json()["results"]
    )


async def test_an_invalid_field_is_told_as_fastapi_tells_it(service: Service) -> None:
    response = await service.client.post("/v1/rerank", json={"documents": ["a", 3], "top_n": 0})
    assert response.status_code == 422
    answer = response.json()
    assert set(answer) == {"id", "message", "detail"}
    assert [detail["loc"] for detail in answer["detail"]] == [
        ["body", "query"],
        ["body", "documents", 1],
        ["body", "top_n"],
    ]
    assert [detail["type"] for detail in answer["detail"]] == ["missing", "document_type", "greater_than_equal"]
    assert all(set(detail) == {"loc", "msg", "type"} for detail in answer["detail"])
    assert (await service.client.post("/v1/rerank", json=[])).json()["detail"][0]["loc"] == ["body"]


async def test_any_other_error_has_a_detail_in_words(service: Service) -> None:
    answer = (await service.client.post("/v1/rerank", content=b"{")).json()
    assert answer["detail"] == answer["message"]
    assert "not JSON" in answer["detail"]
