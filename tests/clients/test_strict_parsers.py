"""The rules by which search engines parse a ranking, rebuilt from their sources, against the running service.

Elasticsearch (its cohere and hugging_face services) refuses a result with any key it does not know. OpenSearch's
connectors cast scores to Double, which a JSON integer is not, and need one result per document.
"""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
BODIES = dict(re.findall(r"^<!-- ([\w-]+) -->\n```json\n(.*?)^```$", PAGE, re.M | re.S))
QUERY = "usb c cable"
DOCUMENTS = ["HDMI cable", "USB-C to USB-C 1 m", "wool socks", "HDMI cable"]
COHERE = {"index", "relevance_score", "document"}
HUGGING_FACE = {"index", "score", "relevance_score", "text", "document"}


def strictly(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), "a key twice"
    return dict(pairs)


def elasticsearch_parse(text: str, known: set[str]) -> list[tuple[int, float, str | None]]:
    """`CohereRankedResponseEntity` and `HuggingFaceRerankResponseEntity`: one throws at any key that is not `known`."""
    answer = json.loads(text, object_pairs_hook=strictly)
    items = answer if isinstance(answer, list) else answer["results"]
    ranked = []
    for item in items:
        unknown = set(item) - known
        assert not unknown, f"unknown field {unknown}"
        score = item.get("score", item.get("relevance_score"))
        assert type(item["index"]) is int
        assert type(score) in (int, float)
        if "document" in item:
            assert isinstance(item["document"], dict), "START_OBJECT expected"
        ranked.append((item["index"], float(score), item.get("text", item.get("document", {}).get("text"))))
    return ranked


def opensearch_parse(text: str, num_documents: int) -> list[float]:
    """`connector.post_process.cohere.rerank`: each score a Double, one for every document sent, in document order."""
    results = json.loads(text)["results"]
    assert len(results) == num_documents, "fewer results than documents"
    scores: dict[int, float] = {}
    for result in results:
        assert type(result["relevance_score"]) is float, "Integer cannot be cast to Double"
        scores[result["index"]] = result["relevance_score"]
    return [scores[index] for index in range(num_documents)]


def native_scores(service_url: str) -> list[float]:
    answer = httpx.post(f"{service_url}/score", json={"query": QUERY, "documents": DOCUMENTS}).json()
    return [result["score"] for result in answer["results"]]


def test_elasticsearch_cohere(service_url: str) -> None:
    # What its cohere service sends, for both versions of the API.
    for path in ("/v1/rerank", "/v2/rerank"):
        body = {"model": "m", "query": QUERY, "documents": DOCUMENTS, "return_documents": True, "top_n": 3}
        ranked = elasticsearch_parse(httpx.post(f"{service_url}{path}", json=body).text, COHERE)
        assert [text for _, _, text in ranked] == [DOCUMENTS[index] for index, _, _ in ranked]
        assert len(ranked) == 3
        assert [score for _, score, _ in ranked] == sorted((score for _, score, _ in ranked), reverse=True)


def test_elasticsearch_hugging_face(service_url: str) -> None:
    settings = json.loads(BODIES["elasticsearch"])["service_settings"]
    path = settings["url"].removeprefix("http://answer-first:8080")
    # What `HuggingFaceRerankRequestEntity` writes. It asks for the best two and takes them itself.
    body = {"texts": DOCUMENTS, "query": QUERY, "return_text": True, "top_n": 2}
    text = httpx.post(f"{service_url}{path}", json=body).text
    assert text.startswith("["), "START_ARRAY expected"
    ranked = elasticsearch_parse(text, HUGGING_FACE)
    assert sorted(index for index, _, _ in ranked) == [0, 1, 2, 3]
    assert [shown for _, _, shown in ranked] == [DOCUMENTS[index] for index, _, _ in ranked]


def test_opensearch_connector(service_url: str) -> None:
    connector = json.loads(BODIES["opensearch"])
    (action,) = connector["actions"]
    template = action["request_body"]
    parameters = {**connector["parameters"], "query": QUERY, "documents": json.dumps(DOCUMENTS)}
    body = re.sub(r"\$\{parameters\.(\w+)\}", lambda match: str(parameters[match.group(1)]), template)
    url = re.sub(r"\$\{parameters\.(\w+)\}", lambda match: parameters[match.group(1)], action["url"])
    path = url.removeprefix("http://answer-first:8080")
    response = httpx.request(action["method"], f"{service_url}{path}", content=body)
    assert response.status_code == 200, response.text
    assert action["post_process_function"] == "connector.post_process.cohere.rerank"
    assert opensearch_parse(response.text, len(DOCUMENTS)) == pytest.approx(native_scores(service_url), abs=1e-6)


def test_extras_that_were_asked_for_break_a_strict_parser(service_url: str) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "native": True}
    with pytest.raises(AssertionError, match="native"):
        elasticsearch_parse(httpx.post(f"{service_url}/v2/rerank", json=body).text, COHERE)
    with pytest.raises(AssertionError, match="Double"):
        opensearch_parse('{"results":[{"index":0,"relevance_score":1}]}', 1)
    with pytest.raises(AssertionError, match="fewer"):
        opensearch_parse('{"results":[]}', 1)
