"""Keys over HTTP: nothing but the probes answers without one, and every refusal has its dialect's shape."""

import httpx
import pytest
from pydantic import SecretStr

from service.access import PUBLIC_PATHS
from service.pages.playground import PUBLIC_PATHS as PAGES
from service.settings import Settings
from tests.api.conftest import Serve, Service

KEY, LIMITED_KEY, ADMIN_KEY = "key-of-the-shop-front", "key-with-small-limits", "key-of-the-operators"
KEYS = SecretStr(f"shop {KEY}; limited {LIMITED_KEY} requests=0.01; ops {ADMIN_KEY} admin")
GOOD = {"query": "q", "documents": ["d"]}
SETTINGS = Settings(max_pack_tokens=64, api_keys=KEYS)


async def test_every_route_but_the_listed_ones_asks_for_a_key(serve: Serve) -> None:
    async with serve(SETTINGS) as service:
        spec = (await service.client.get("/openapi.json", headers={"x-api-key": KEY})).json()
        documented = [(method.upper(), path) for path, methods in spec["paths"].items() for method in methods]
        beside = [
            ("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/docs/docs.js", "/playground/nowhere")
        ]
        beside.append(("POST", "/playground/candidate"))
        every = [*documented, *beside, ("GET", "/nowhere"), ("PUT", "/score"), ("OPTIONS", "/score")]
        assert len(documented) > 15
        assert {path for _, path in documented} >= {
            "/score",
            "/v2/rerank",
            "/metrics",
            "/admin/artifact",
            *PUBLIC_PATHS,
        }
        assert {"/livez", "/readyz", "/health", "/ping"} == PUBLIC_PATHS
        for path in PAGES:
            assert (await service.client.get(path)).status_code == 200
        for method, path in every:
            response = await service.client.request(method, path)
            assert (response.status_code == 401) == (path not in PUBLIC_PATHS), (method, path)
            if path not in PUBLIC_PATHS:
                assert response.headers["www-authenticate"] == "Bearer"
                assert "x-api-key" in response.text.lower()
        assert service.engine.packs == []


async def test_a_key_lets_in_and_its_name_is_counted(serve: Serve) -> None:
    async with serve(SETTINGS) as service:
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"authorization": KEY}):
            assert (await service.score(GOOD, headers=headers)).status_code == 200
        text = (await service.client.get("/metrics", headers={"x-api-key": ADMIN_KEY})).text
        assert 'relevance_key_requests_total{key="shop"} 3.0' in text
        assert 'relevance_key_requests_total{key="limited"} 0.0' in text
        assert KEY not in text


async def test_metrics_are_public_when_told_so(serve: Serve) -> None:
    async with serve(SETTINGS.model_copy(update={"public_metrics": True})) as service:
        assert (await service.client.get("/metrics")).status_code == 200
        assert (await service.score(GOOD)).status_code == 401


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/score", {"error"}),
        ("/v2/rerank", {"id", "message"}),
        ("/v1/rerank", {"id", "message", "detail"}),
        ("/rerank", {"error", "error_type"}),
        ("/v1/score", {"error"}),
        ("/v2/nowhere", {"id", "message"}),
    ],
)
async def test_refusals_have_the_shape_of_the_dialect(serve: Serve, path: str, keys: set[str]) -> None:
    async with serve(SETTINGS) as service:
        refused = await service.client.post(path, json=GOOD)
        assert (refused.status_code, set(refused.json())) == (401, keys)
        # One in a hundred seconds: the first is let in, whatever becomes of it, the second is not.
        assert (await service.client.get("/metrics", headers={"x-api-key": LIMITED_KEY})).status_code == 200
        limited = await service.client.post(path, json=GOOD, headers={"x-api-key": LIMITED_KEY})
        assert (limited.status_code, set(limited.json())) == (429, keys)
        assert 90 <= int(limited.headers["retry-after"]) <= 100
        assert await metric(service, 'relevance_requests_total{outcome="unauthorized"}') == 1
        assert await metric(service, 'relevance_requests_total{outcome="rate_limited"}') >= 1


async def metric(service: Service, series: str) -> float:
    lines = (await service.client.get("/metrics", headers={"x-api-key": ADMIN_KEY})).text.splitlines()
    (line,) = [line for line in lines if line.startswith(series + " ")]
    return float(line.rsplit(" ", 1)[1])


async def test_documents_are_charged_before_they_are_computed(serve: Serve) -> None:
    settings = SETTINGS.model_copy(update={"api_keys": SecretStr(f"small {KEY} documents=0.1")})
    async with serve(settings) as service:
        body = {"query": "q", "documents": ["a", "b", "c", "d", "e"]}
        assert (await service.score(body, headers={"x-api-key": KEY})).status_code == 200
        packs = len(service.engine.packs)
        refused = await service.score(body, headers={"x-api-key": KEY})
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limited"
        assert len(service.engine.packs) == packs


async def test_admin_is_closed_where_no_key_is_configured(service: Service) -> None:
    response = await service.client.post("/admin/artifact", json={"path": "x"})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "forbidden"
    assert (await service.score(GOOD)).status_code == 200


async def test_browsers_are_let_in_from_listed_origins_only(serve: Serve) -> None:
    async def preflight(service: Service, origin: str) -> httpx.Response:
        wanted = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key",
        }
        return await service.client.options("/score", headers=wanted)

    async with serve(SETTINGS) as service:
        assert "access-control-allow-origin" not in (await preflight(service, "https://shop.example")).headers
    async with serve(SETTINGS.model_copy(update={"cors_origins": ["https://shop.example"]})) as service:
        allowed = await preflight(service, "https://shop.example")
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
        assert (await preflight(service, "https://evil.example")).status_code == 400
        answer = await service.score(GOOD, headers={"x-api-key": KEY, "origin": "https://shop.example"})
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        other = await service.score(GOOD, headers={"x-api-key": KEY, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_every_answer_forbids_sniffing_caching_and_framing(service: Service) -> None:
    for response in (
        await service.score(GOOD),
        await service.score({}),
        await service.client.get("/nowhere"),
        await service.client.get("/readyz"),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    for page in ("/", "/docs", "/playground/app.js"):
        policy = (await service.client.get(page)).headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; " in policy
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "a\tb", "é", "<script>"])
async def test_a_request_id_is_kept_or_made(service: Service, bad: str) -> None:
    kept = await service.score(GOOD, headers={"x-request-id": "search-7.f:1"})
    assert kept.headers["x-request-id"] == "search-7.f:1"
    made = await service.client.post("/score", json=GOOD, headers=[(b"x-request-id", bad.encode())])
    assert len(made.headers["x-request-id"]) == 32
    assert (await service.score(GOOD)).headers["x-request-id"] != (await service.score(GOOD)).headers["x-request-id"]


async def test_a_bug_is_logged_under_the_id_its_caller_is_told(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("service.routes.parse_json", broken)
    response = await service.score(GOOD, headers={"x-request-id": "find-me"})
    assert response.status_code == 500
    assert response.headers["x-request-id"] == "find-me"
    (record,) = [record for record in caplog.records if record.getMessage() == "request_failed"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert await service.metric('relevance_requests_total{outcome="internal"}') == 1
