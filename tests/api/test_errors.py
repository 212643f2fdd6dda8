"""Bad requests and faults: a stable code, the field at fault, and never a 5xx for what the caller did."""

from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.dialects.native import ErrorAnswer
from service.settings import Settings
from service.wire import MAX_FIELD_ERRORS
from tests.api.conftest import Serve, Service, serve_app

GOOD = {"query": "q", "documents": ["d"]}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, which has exactly the shape that OpenAPI promises."""
    assert response.headers["content-type"] == "application/json"
    ErrorAnswer.model_validate_json(response.content)
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"query": "", "documents": ["d"]}, ["query"]),
        ({"query": " \n\t　", "documents": ["d"]}, ["query"]),
        ({"query": None, "documents": ["d"]}, ["query"]),
        ({"query": 7, "documents": ["d"]}, ["query"]),
        ({"documents": ["d"]}, ["query"]),
        ({"query": "q"}, ["documents"]),
        ({}, ["query", "documents"]),
        ({"query": "q", "documents": []}, ["documents"]),
        ({"query": "q", "documents": "d"}, ["documents"]),
        ({"query": "q", "documents": {"0": "d"}}, ["documents"]),
        ({"query": "q", "documents": ["a", "b", "c", None]}, ["documents.3"]),
        ({"query": "q", "documents": ["a", 1, True, {"text": "t"}]}, ["documents.1", "documents.2", "documents.3"]),
        ({**GOOD, "documnets": []}, ["documnets"]),
        ({**GOOD, "instruction": 3}, ["instruction"]),
        ({**GOOD, "instruction": "x" * 500}, ["instruction"]),
        ({**GOOD, "pairs": []}, ["query", "documents"]),
        ({"pairs": [{"query": "q", "document": "d"}], "documents": ["d"]}, ["documents"]),
        ({"pairs": []}, ["pairs"]),
        ({"pairs": [["q", "d"]]}, ["pairs.0"]),
        ({"pairs": [{"query": "q", "document": "d"}, {"query": " "}]}, ["pairs.1.query", "pairs.1.document"]),
        ({"pairs": [{"query": "q", "document": "d", "id": 1}]}, ["pairs.0.id"]),
        ([], ["body"]),
        ("text", ["body"]),
        (3, ["body"]),
    ],
)
async def test_a_bad_field_is_named(service: Service, body: Any, fields: list[str]) -> None:
    response = await service.score(body)
    assert response.status_code == 422
    error = error_of(response)
    assert error["code"] == "invalid_fields"
    assert error["field"] == fields[0]
    assert [detail["field"] for detail in error.get("details", [error])] == fields
    assert service.engine.packs == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"query":"q","documents":["d"],}', b"\xff\xfe", b'{"query":NaN}', b"[" * 100_000, b"\xef\xbb\xbf{}"],
)
async def test_what_is_not_json_is_told_so(service: Service, content: bytes) -> None:
    response = await service.client.post("/score", content=content)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_json"


@pytest.mark.parametrize("text", [rb'"\ud800"', rb'"\udfff x"', b'"\xed\xa0\x80"'])
@pytest.mark.parametrize("body", [b'{"query":%b,"documents":["d"]}', b'{"query":"q","documents":[%b]}'])
async def test_a_lone_surrogate_is_the_callers_mistake(service: Service, body: bytes, text: bytes) -> None:
    response = await service.client.post("/score", content=body % text)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_json"


async def test_an_answer_to_a_thousand_mistakes_stays_small(service: Service) -> None:
    response = await service.score({"query": "q", "documents": [None] * 1000, "k" * 100_000: 1})
    assert len(error_of(response)["details"]) == MAX_FIELD_ERRORS
    assert len(response.content) < 10_000
    only_key = await service.score({**GOOD, "k" * 100_000: 1})
    assert len(only_key.content) < 1000


@pytest.mark.parametrize("entries", [{"documents": ["d"] * 5}, {"pairs": [{"query": "q", "document": "d"}] * 5}])
async def test_too_many_documents(serve: Serve, entries: dict[str, Any]) -> None:
    async with serve(Settings(max_documents=4)) as service:
        response = await service.score({"query": "q", **entries} if "documents" in entries else entries)
        assert response.status_code == 422
        assert error_of(response)["field"] == next(iter(entries))
        assert "at most 4" in error_of(response)["message"]
        fewer = {name: listed[:4] for name, listed in entries.items()}
        assert (await service.score({"query": "q", **fewer} if "documents" in fewer else fewer)).status_code == 200


async def test_a_body_over_the_limit_is_refused_announced_or_not(serve: Serve) -> None:
    async with serve(Settings(max_body_bytes=2000)) as service:
        exactly = orjson.dumps({"query": "q", "documents": ["x" * (2000 - 30)]})
        assert len(exactly) == 2000
        assert (await service.client.post("/score", content=exactly)).status_code == 200

        async def chunks() -> Any:
            for _ in range(3):
                yield b" " * 1000

        for content in (exactly + b" ", chunks()):
            response = await service.client.post("/score", content=content)
            assert response.status_code == 413
            assert error_of(response)["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/scores", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("POST", "/scores", 404, "not_found"),
        ("GET", "/score", 405, "method_not_allowed"),
        ("DELETE", "/readyz", 405, "method_not_allowed"),
    ],
)
async def test_unknown_paths_and_methods(service: Service, method: str, path: str, status: int, code: str) -> None:
    response = await service.client.request(method, path)
    assert response.status_code == status
    assert error_of(response)["code"] == code
    assert ("allow" in response.headers) == (status == 405)
    assert await service.metric(f'relevance_requests_total{{outcome="{code}"}}') == 1


async def test_overload_is_429_with_a_whole_number_of_seconds(serve: Serve) -> None:
    async with serve(Settings(max_waiting_tokens=10, max_pack_tokens=16)) as service:
        with service.engine.blocked():
            first = await service.blocked_score(GOOD)
            response = await service.score({"query": "q", "documents": ["eleven tokens and more"]})
        assert response.status_code == 429
        assert error_of(response)["code"] == "overloaded"
        assert response.headers["retry-after"] == "1"
        assert (await first).status_code == 200


async def test_a_failing_engine_fails_this_request_and_not_the_next(service: Service) -> None:
    service.engine.fail_on = lambda ids: MemoryError("secret detail") if len(ids) > 20 else None
    response = await service.score({"query": "q", "documents": ["fine", "a document of over 20 bytes"]})
    assert response.status_code == 500
    assert error_of(response)["code"] == "engine_failed"
    assert "secret" not in response.text
    assert (await service.score(GOOD)).status_code == 200
    assert await service.metric('relevance_requests_total{outcome="engine_failed"}') == 1
    assert (await service.client.get("/readyz")).status_code == 200


async def test_a_bug_is_a_500_that_tells_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr("service.routes.parse_json", broken)
    response = await service.score(GOOD)
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal"
    assert "secret" not in response.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["query", "documents", "pairs", "instruction", "document", "other"])
NEAR_REQUESTS = st.dictionaries(FIELDS, JSON_VALUES | st.lists(st.text()) | st.text(), max_size=5)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies=st.lists(NEAR_REQUESTS | JSON_VALUES, min_size=10, max_size=30))
async def test_no_json_makes_a_5xx(bodies: list[Any]) -> None:
    async with serve_app() as service:
        for body in bodies:
            content = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS) if is_encodable(body) else b"null"
            response = await service.client.post("/score", content=content)
            assert response.status_code in {200, 400, 422}
            if response.status_code != 200:
                error_of(response)


def is_encodable(body: Any) -> bool:
    try:
        orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate
        return False
    return True
