"""POST /v2/rerank."""

from typing import Any
from unittest.mock import ANY

import pytest

from tests.api.conftest import Service

BODY = {"model": "rerank-v3.5", "query": "usb c cable", "documents": ["USB-C to USB-C 1 m", "HDMI cable", "socks"]}


async def rerank(service: Service, **options: Any) -> Any:
    response = await service.client.post("/v2/rerank", json={**BODY, **options})
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_plain_answer_has_these_keys_and_no_other(service: Service) -> None:
    answer = await rerank(service)
    assert set(answer) == {"id", "results", "meta"}
    assert all(set(result) == {"index", "relevance_score"} for result in answer["results"])
    prompt_tokens = len(BODY["query"]) + 1 + sum(len(text) + 2 for text in BODY["documents"])
    assert answer["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1.0},
        "tokens": {"input_tokens": prompt_tokens, "output_tokens": 0.0},
    }
    assert (await rerank(service))["id"] != answer["id"]


async def test_top_n_cuts_the_ranking(service: Service) -> None:
    everything = (await rerank(service))["results"]
    assert (await rerank(service, top_n=2))["results"] == everything[:2]
    assert (await rerank(service, top_k=1))["results"] == everything[:1]
    assert (await rerank(service, top_n=1000))["results"] == everything
    assert (await rerank(service, top_n=None))["results"] == everything


async def test_null_is_an_option_left_alone(service: Service) -> None:
    options = dict.fromkeys(
        ["model", "top_n", "return_documents", "rank_fields", "max_tokens_per_doc", "instruction", "native", "priority"]
    )
    assert (await rerank(service, **options))["results"] == (await rerank(service))["results"]
    assert await rerank(service, top_n=None, top_k=1, instruction=None, instruct="strict") == {
        **(await rerank(service, top_n=1, instruction="strict")),
        "id": ANY,
    }


async def test_documents_come_back_as_objects_when_asked_for(service: Service) -> None:
    results = (await rerank(service, return_documents=True))["results"]
    assert {result["index"]: result["document"] for result in results} == {
        index: {"text": text} for index, text in enumerate(BODY["documents"])
    }


async def test_native_extras_come_when_asked_for(service: Service) -> None:
    native = (await service.score({"query": BODY["query"], "documents": BODY["documents"]})).json()["results"]
    for result in (await rerank(service, native=True))["results"]:
        mine = native[result["index"]]
        assert result["native"] == {
            key: value for key, value in mine.items() if key not in {"index", "score", "scored"}
        }


async def test_documents_may_be_objects(service: Service) -> None:
    plain = (await rerank(service))["results"]
    objects = [{"text": text, "id": 7} for text in BODY["documents"]]
    answer = await rerank(service, documents=objects, return_documents=True)
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [
        (r["index"], r["relevance_score"]) for r in plain
    ]
    assert answer["results"][0]["document"] == objects[answer["results"][0]["index"]]


@pytest.mark.parametrize("inner", [[], {}])
async def test_what_is_nested_too_deeply_to_be_written_is_not_given_back(service: Service, inner: Any) -> None:
    for _ in range(300):
        inner = [inner] if isinstance(inner, list) else {"k": inner}
    documents = ["plain", {"text": "deep", "more": inner}]
    assert len((await rerank(service, documents=documents))["results"]) == 2
    response = await service.client.post("/v2/rerank", json={**BODY, "documents": documents, "return_documents": True})
    assert response.status_code == 422
    assert response.json()["message"].startswith("documents.1: ")
    shallow = {"text": "deep", "more": [{"k": [1, {"k": None}]}]}
    (only,) = (await rerank(service, documents=[shallow], return_documents=True))["results"]
    assert only["document"] == shallow


async def test_rank_fields_are_joined_in_their_order(service: Service) -> None:
    objects = [{"text": "no", "body": "b", "title": "t"}, {"title": "only"}]
    joined = await rerank(service, documents=["t\nb", "only"])
    answer = await rerank(service, documents=objects, rank_fields=["title", "body"])
    assert answer["results"] == joined["results"]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"documents": ["a", {"txt": "b"}]}, "documents.1"),
        ({"documents": ["a", {"text": 3}]}, "documents.1"),
        ({"documents": ["a", 3, None]}, "documents.1"),
        ({"documents": [{"text": "t"}], "rank_fields": ["title"]}, "documents.0"),
        ({"documents": []}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "many"}, "top_n"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"rank_fields": []}, "rank_fields"),
        ({"instruction": "x" * 500}, "instruction"),
    ],
)
async def test_a_field_at_fault_is_named(service: Service, options: dict[str, Any], place: str) -> None:
    response = await service.client.post("/v2/rerank", json={**BODY, **options})
    assert response.status_code == 422
    assert set(response.json()) == {"id", "message"}
    assert response.json()["message"].startswith(f"{place}: ")


async def test_max_tokens_per_doc_reads_less_of_a_document(service: Service) -> None:
    cut = await rerank(service, documents=["abcdef", "xyz"], max_tokens_per_doc=3)
    assert cut["results"] == (await rerank(service, documents=["abc", "xyz"]))["results"]
    assert cut["meta"]["warnings"] == ["1 of 2 documents were cut"]


async def test_what_has_no_effect_is_told(service: Service) -> None:
    answer = await rerank(service, stray=1, max_chunks_per_doc=10, query="q" * 100, **{"k" * 1000: 2})
    assert answer["meta"]["warnings"] == [
        "unknown field 'stray' was ignored",
        f"unknown field '{'k' * 100}' was ignored",
        "max_chunks_per_doc has no effect here",
        "the query was cut to fit the model",
    ]


async def test_warnings_stay_few(service: Service) -> None:
    answer = await rerank(service, **{f"k{n}": n for n in range(1000)})
    assert len(answer["meta"]["warnings"]) == 20


@pytest.mark.parametrize("name", ["instruction", "instruct"])
async def test_an_instruction_changes_the_prompt(service: Service, name: str) -> None:
    native = (await service.score({**{k: BODY[k] for k in ("query", "documents")}, "instruction": "strict"})).json()
    for result in (await rerank(service, **{name: "strict"}))["results"]:
        assert result["relevance_score"] == native["results"][result["index"]]["score"]
