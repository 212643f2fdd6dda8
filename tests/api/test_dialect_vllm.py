"""POST /score and /v1/score with vLLM's fields, GET /v1/models, GET /version."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from relevance.pair import Pair
from relevance.scoring import expected_score
from tests.api.conftest import Service
from tests.fakes import MAX_TOKENS, expected_distribution, fake_artifact


def score_of(query: str, document: str) -> float:
    return float(expected_score(expected_distribution(Pair(query, document))))


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        ({"queries": "q", "documents": ["a", "b"]}, [("q", "a"), ("q", "b")]),
        ({"text_1": "q", "text_2": "a"}, [("q", "a")]),
        ({"text_1": ["q", "r"], "text_2": ["a", "b"]}, [("q", "a"), ("r", "b")]),
        ({"text_1": ["q"], "text_2": ["a", "b"]}, [("q", "a"), ("q", "b")]),
        ({"data_1": "q", "data_2": ["", "b"]}, [("q", ""), ("q", "b")]),
        ({"queries": ["q", "r"], "items": ["a", "b"], "model": None}, [("q", "a"), ("r", "b")]),
    ],
)
async def test_one_to_many_and_many_to_many_in_input_order(
    service: Service, body: dict[str, Any], pairs: list[tuple[str, str]]
) -> None:
    answer = (await service.client.post("/score", json=body)).json()
    assert set(answer) == {"id", "object", "created", "model", "data", "usage"}
    assert answer["object"] == "list"
    # The last bit of a sum over grades depends on how many rows numpy sums at once.
    expected = [pytest.approx(score_of(*pair), rel=1e-14) for pair in pairs]
    assert answer["data"] == [
        {"index": index, "object": "score", "score": score} for index, score in enumerate(expected)
    ]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"queries": ["q", "r"], "documents": ["a", "b", "c"]}, "documents"),
        ({"queries": ["q", "r"], "documents": "a"}, "documents"),
        ({"queries": [], "documents": ["a"]}, "queries"),
        ({"queries": ["q", " "], "documents": ["a", "b"]}, "queries.1"),
        ({"text_1": "q"}, "documents"),
        ({"text_1": "q", "text_2": [{"image_url": "x"}]}, "text_2.0"),
        ({"text_1": "q", "text_2": ["a"], "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
    ],
)
async def test_what_is_no_request_is_400(service: Service, body: dict[str, Any], param: str) -> None:
    response = await service.client.post("/v1/score", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("BadRequestError", 400, param)


async def test_options(service: Service) -> None:
    body = {"text_1": "q", "text_2": ["abcdef"]}

    async def score(**options: Any) -> Any:
        return (await service.client.post("/score", json={**body, **options})).json()["data"][0]

    plain = (await score())["score"]
    assert (await score(truncate_prompt_tokens=-1, instruction=None))["score"] == plain
    assert (await score(truncate_prompt_tokens=3))["score"] == score_of("q", "abc")
    raw = (await score(use_activation=False))["score"]
    assert 1 / (1 + math.exp(-raw)) == pytest.approx(plain, rel=1e-12)
    assert (await score(native=True))["native"]["distribution"] == expected_distribution(Pair("q", "abcdef")).tolist()
    strict = float(expected_score(expected_distribution(Pair("q", "abcdef", "strict"))))
    assert (await score(instruct="strict"))["score"] == strict


async def test_models_lists_the_one_that_is_served(service: Service) -> None:
    (model,) = (await service.client.get("/v1/models")).json()["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("fake", "model", MAX_TOKENS)
    assert model["root"] == fake_artifact().hash
    assert model["created"] == 1767225600  # 2026-01-01T00:00:00Z


async def test_version_is_that_of_the_project(service: Service) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (await service.client.get("/version")).json() == {"version": project["version"]}
