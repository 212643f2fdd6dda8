"""Whatever goes wrong is told in the shape of the dialect spoken, and no body makes a 5xx."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from fastapi import Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices

from service.dialect import Dialect, Stamp
from service.dialects import discover
from service.dispatch import Dispatch
from service.errors import ServiceError, UnauthorizedError, concrete_errors, example_of
from service.routes import DIALECT_KEY
from service.settings import Settings
from tests.api.conftest import Serve, Service, serve_app
from tests.fakes import fake_artifact

DISPATCH = Dispatch(discover())
LABELS = list(fake_artifact().manifest.label_token_ids)
DIALECTS = {dialect.name: dialect for dialect in DISPATCH.dialects}
BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("/score", {"query": "q", "documents": ["d"]}, "native"),
    ("/v2/rerank", {"query": "q", "documents": ["d"]}, "cohere"),
    ("/v1/rerank", {"query": "q", "documents": ["d"]}, "jina"),
    ("/rerank", {"query": "q", "documents": ["d"]}, "jina"),
    ("/rerank", {"query": "q", "texts": ["d"]}, "tei"),
    ("/predict", {"inputs": ["q", "d"]}, "tei"),
    ("/score", {"queries": "q", "documents": ["d"]}, "vllm"),
    ("/v1/score", {"text_1": "q", "text_2": "d"}, "vllm"),
    ("/score", {"query": "q", "items": ["d"], "label_token_ids": LABELS}, "sglang"),
    ("/invocations", {"texts": ["d"], "query": "q"}, "tei"),
]


def has_shape_of(dialect: Dialect, body: Any) -> None:
    """`body` is an error of `dialect`: no key more, none less but those the model lets go."""
    parsed = dialect.error.model_validate(body, strict=True)
    assert parsed.model_dump(exclude_unset=True) == body


def check_error(response: httpx.Response, dialect: str, status: int) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    has_shape_of(DIALECTS[dialect], response.json())
    return response.json()


@pytest.mark.parametrize("error", list(concrete_errors()), ids=lambda error: error.code)
@pytest.mark.parametrize("dialect", list(DIALECTS.values()), ids=list(DIALECTS))
def test_every_dialect_has_a_word_for_every_error(dialect: Dialect, error: type[ServiceError]) -> None:
    reply = dialect.refuse(example_of(error), Stamp("id", 0))
    has_shape_of(dialect, orjson.loads(orjson.dumps(reply.body)))
    # The class of a status is kept, but TEI's clients retry what is 5xx.
    departs = {"engine_failed": 424, "deadline_exceeded": 429} if dialect.name == "tei" else {}
    assert reply.status == departs.get(error.code, reply.status)
    assert reply.status // 100 == error.status // 100 or error.code in departs
    assert "query" in str(reply.body) or not example_of(error).field_errors


@pytest.mark.parametrize(("path", "body", "dialect"), BODIES)
async def test_a_field_at_fault_is_named(service: Service, path: str, body: dict[str, Any], dialect: str) -> None:
    status = 400 if dialect in {"vllm", "sglang"} else 422
    name = next(name for name in ("query", "queries", "text_1", "inputs") if name in body)
    blank = {**body, name: [" ", "d"] if name == "inputs" else " "}
    answer = check_error(await service.client.post(path, json=blank), dialect, status)
    assert name in str(answer)
    listed = next(name for name in ("documents", "texts", "text_2", "items", "inputs") if name in body)
    answer = check_error(await service.client.post(path, json={**body, listed: 7}), dialect, status)
    assert listed in str(answer)
    assert service.engine.packs == []


@pytest.mark.parametrize("path", DISPATCH.paths)
async def test_what_has_no_fields_belongs_to_the_dialect_of_the_path(service: Service, path: str) -> None:
    dialect = DISPATCH.dialect_of(path).name
    for content in (b"", b"{", b"\xff", b'{"query": NaN}'):
        check_error(await service.client.post(path, content=content), dialect, 400)
    for content in (b"[]", b"null", b'"text"', b"3"):
        response = await service.client.post(path, content=content)
        check_error(response, dialect, 400 if dialect == "vllm" else 422)
    get = await service.client.get(path)
    check_error(get, dialect, 405)
    assert get.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path", "status", "dialect"),
    [
        ("POST", "/v2/embed", 404, "cohere"),
        ("POST", "/v1/rerank/", 404, "jina"),
        ("POST", "/v1/completions", 404, "vllm"),
        ("POST", "/embed", 404, "native"),
        ("POST", "/info", 405, "tei"),
        ("POST", "/v1/models", 405, "vllm"),
        ("PUT", "/v2/rerank", 405, "cohere"),
    ],
)
async def test_unknown_paths_and_methods(service: Service, method: str, path: str, status: int, dialect: str) -> None:
    check_error(await service.client.request(method, path), dialect, status)


@pytest.mark.parametrize(("path", "body", "dialect"), BODIES)
async def test_too_much_at_once(serve: Serve, path: str, body: dict[str, Any], dialect: str) -> None:
    async with serve(Settings(max_documents=2, max_body_bytes=1024)) as service:
        name = next(name for name in ("documents", "texts", "text_2", "items", "inputs") if name in body)
        many = {**body, name: [["q", "d"]] * 3 if name == "inputs" else ["d"] * 3}
        answer = check_error(
            await service.client.post(path, json=many), dialect, 400 if dialect in {"vllm", "sglang"} else 422
        )
        assert "at most 2" in str(answer)
        # Nobody reads what is too large, so only its path tells.
        check_error(await service.client.post(path, content=b" " * 2000), DISPATCH.dialect_of(path).name, 413)


@pytest.mark.parametrize(("path", "body", "dialect"), BODIES)
async def test_overload(serve: Serve, path: str, body: dict[str, Any], dialect: str) -> None:
    async with serve(Settings(max_waiting_tokens=5, max_pack_tokens=16)) as service:
        with service.engine.blocked():
            first = await service.blocked_score({"query": "q", "documents": ["abc"]})
            response = await service.client.post(path, json=body)
            check_error(response, dialect, 429)
            assert response.headers["retry-after"] == "1"
        assert (await first).status_code == 200


@pytest.mark.parametrize(("path", "body", "dialect"), BODIES)
async def test_not_ready(serve: Serve, path: str, body: dict[str, Any], dialect: str) -> None:
    def fail(_: object) -> Any:
        raise RuntimeError("no engine")

    async with serve(build=fail) as service:
        check_error(await service.client.post(path, json=body), dialect, 503)
        for probe in ("/health", "/ping"):
            assert (await service.client.get(probe)).status_code == 503


@pytest.mark.parametrize(("path", "body", "dialect"), BODIES)
async def test_a_failing_engine(service: Service, path: str, body: dict[str, Any], dialect: str) -> None:
    service.engine.fail_on = lambda _: MemoryError("secret detail")
    answer = check_error(await service.client.post(path, json=body), dialect, 424 if dialect == "tei" else 500)
    assert "secret" not in str(answer)


@pytest.mark.parametrize("name", list(DIALECTS))
async def test_no_key(service: Service, name: str) -> None:
    """Nothing raises it yet; whatever will, its answer has the dialect's shape and says how to come in."""

    async def locked(request: Request) -> None:
        request.scope[DIALECT_KEY] = DIALECTS[name]
        raise UnauthorizedError("a key is needed")

    service.app.add_api_route("/locked", locked)
    response = await service.client.get("/locked")
    check_error(response, name, 401)
    assert response.headers["www-authenticate"] == "Bearer"


def names_of(model: Any) -> list[str]:
    names: list[str] = []
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        names.extend([str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name])
    return names


WORDS = st.text(max_size=12) | st.sampled_from(["q", "usb c cable", "true", "Left", "\x00", "x" * 300])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)
TEXTS = WORDS | st.lists(WORDS, max_size=5) | st.lists(st.fixed_dictionaries({"text": WORDS}), max_size=3)
PAIRS = st.lists(st.lists(WORDS, min_size=2, max_size=2), max_size=3)
OPTIONS = {
    "native": st.booleans(),
    "top_n": st.integers(1, 5),
    "return_documents": st.booleans() | st.just("true"),
    "return_text": st.booleans(),
    "raw_scores": st.booleans(),
    "truncate": st.booleans(),
    "apply_softmax": st.booleans(),
    "max_tokens_per_doc": st.integers(1, 5),
    "label_token_ids": st.lists(st.sampled_from(LABELS), min_size=1, max_size=4),
}


def requests_of(dialect: Dialect) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A request of the dialect with options that fit, and mostly with one or two fields that may not."""
    models = [model for entry in dialect.entries for model in entry.requests]
    names = sorted({name for model in models for name in names_of(model)})
    options = st.fixed_dictionaries({}, optional={name: OPTIONS[name] for name in names if name in OPTIONS})
    spoilt = st.dictionaries(st.sampled_from([*names, "stray"]), JSON_VALUES | TEXTS | PAIRS, max_size=2)
    good = st.sampled_from([(path, body) for path, body, name in BODIES if name == dialect.name])
    return st.builds(lambda one, option, spoil: (one[0], {**one[1], **option, **spoil}), good, options, spoilt)


@pytest.mark.parametrize("name", list(DIALECTS))
def test_no_body_makes_a_5xx_or_another_shape(name: str) -> None:
    seen: set[int] = set()

    async def send(batch: list[tuple[str, dict[str, Any]]]) -> None:
        async with serve_app() as service:
            for path, body in batch:
                try:
                    content = orjson.dumps(body)
                except TypeError:  # a lone surrogate
                    continue
                response = await service.client.post(path, content=content)
                dialect, _ = DISPATCH.match(path, body)
                assert response.status_code in {200, 400, 422}, (body, response.text)
                seen.add(response.status_code)
                if response.status_code != 200:
                    has_shape_of(dialect, response.json())

    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(batch=st.lists(requests_of(DIALECTS[name]), min_size=1, max_size=12))
    def fuzz(batch: list[tuple[str, dict[str, Any]]]) -> None:
        asyncio.run(send(batch))

    fuzz()
    assert 200 in seen, "no body was a request: the fuzzing is too wild to reach the writers"
    assert seen & {400, 422}
