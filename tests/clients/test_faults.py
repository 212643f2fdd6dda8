"""What a real client makes of our errors: it raises its own exception, with the reason in it, and does not loop."""

from typing import Any

import httpx
import pytest

from tests.clients.conftest import overloaded

MANY = ["document"] * 51  # one more than the service takes
QUERY = "usb c cable"


@pytest.mark.parametrize("version", ["ClientV2", "Client"])
def test_cohere_raises_what_the_status_says(service_url: str, version: str) -> None:
    cohere = pytest.importorskip("cohere", reason="make test-clients")
    client = getattr(cohere, version)(api_key="any", base_url=service_url)
    with pytest.raises(cohere.UnprocessableEntityError) as caught:
        client.rerank(model="m", query=QUERY, documents=MANY)
    assert "at most 50" in str(caught.value.body)
    with pytest.raises(cohere.NotFoundError) as caught:
        client.embed(model="m", texts=["a"], input_type="search_query", embedding_types=["float"])
    assert "there is no POST" in str(caught.value.body)


async def test_cohere_async_raises_too(service_url: str) -> None:
    cohere = pytest.importorskip("cohere", reason="make test-clients")
    client = cohere.AsyncClientV2(api_key="any", base_url=service_url)
    with pytest.raises(cohere.UnprocessableEntityError, match="at most 50"):
        await client.rerank(model="m", query=QUERY, documents=MANY)


def test_cohere_gets_warnings_and_extras_on_request(service_url: str) -> None:
    cohere = pytest.importorskip("cohere", reason="make test-clients")
    client = cohere.ClientV2(api_key="any", base_url=service_url)
    extra: Any = {"additional_body_parameters": {"native": True, "stray": 1}}
    answer = client.rerank(model="m", query=QUERY, documents=["a", "b"], request_options=extra)
    assert answer.meta.warnings == ["unknown field 'stray' was ignored"]
    assert answer.meta.billed_units.search_units == 1.0
    extras = answer.results[0].native
    assert sum(extras["distribution"]) == pytest.approx(1.0)
    assert extras["grade_name"]


def test_cohere_understands_overload(narrow_url: str) -> None:
    cohere = pytest.importorskip("cohere", reason="make test-clients")
    client = cohere.ClientV2(api_key="any", base_url=narrow_url)
    options: Any = {"max_retries": 0}
    with overloaded(narrow_url), pytest.raises(cohere.TooManyRequestsError) as caught:
        client.rerank(model="m", query=QUERY, documents=["a"], request_options=options)
    assert "wait" in str(caught.value.body)


def test_haystacks_tei_ranker_understands_overload(narrow_url: str) -> None:
    tei = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api", reason="make test-clients")
    haystack = pytest.importorskip("haystack")
    ranker = tei.HuggingFaceTEIRanker(url=narrow_url, max_retries=1)
    documents = [haystack.Document(content="a")]
    with overloaded(narrow_url), pytest.raises(RuntimeError, match="Overloaded"):
        ranker.run(query=QUERY, documents=documents)


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank"])
def test_when_to_come_back_is_a_whole_number(narrow_url: str, path: str) -> None:
    with overloaded(narrow_url):
        refused = httpx.post(f"{narrow_url}{path}", json={"query": QUERY, "documents": ["a"]})
    assert refused.status_code == 429
    assert refused.headers["retry-after"].isdecimal()


def test_langchain_passes_the_reason_on(service_url: str) -> None:
    langchain_cohere = pytest.importorskip("langchain_cohere", reason="make test-clients")
    reranker = langchain_cohere.CohereRerank(model="m", cohere_api_key="any", base_url=service_url)
    with pytest.raises(Exception, match="at most 50"):
        reranker.rerank(MANY, QUERY)


def test_haystacks_jina_ranker_finds_its_detail(service_url: str) -> None:
    jina = pytest.importorskip("haystack_integrations.components.rankers.jina", reason="make test-clients")
    haystack = pytest.importorskip("haystack")
    secret = haystack.utils.Secret.from_token("any")
    ranker = jina.JinaRanker(api_key=secret, base_url=f"{service_url}/v1/rerank")
    with pytest.raises(RuntimeError, match="at most 50"):
        ranker.run(query=QUERY, documents=[haystack.Document(content=str(n)) for n in range(51)])


def test_haystacks_vllm_ranker_finds_its_detail(service_url: str) -> None:
    vllm = pytest.importorskip("haystack_integrations.components.rankers.vllm", reason="make test-clients")
    haystack = pytest.importorskip("haystack")
    ranker = vllm.VLLMRanker(model="m", api_base_url=f"{service_url}/v1")
    with pytest.raises(RuntimeError, match="at most 50"):
        ranker.run(query=QUERY, documents=[haystack.Document(content=str(n)) for n in range(51)])


def test_haystacks_tei_ranker_passes_the_error_on_and_truncates_at_either_end(service_url: str) -> None:
    tei = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api", reason="make test-clients")
    haystack = pytest.importorskip("haystack")
    ranker = tei.HuggingFaceTEIRanker(url=service_url, raw_scores=True)
    with pytest.raises(RuntimeError, match="Validation"):
        ranker.run(query=QUERY, documents=[haystack.Document(content=str(n)) for n in range(51)])
    documents = [haystack.Document(content="usb " * 300 + "socks")]
    directions = pytest.importorskip(
        "haystack_integrations.components.rankers.huggingface_api.ranker"
    ).TruncationDirection
    found = [
        ranker.run(query=QUERY, documents=documents, truncation_direction=direction)["documents"][0].score
        for direction in (directions.LEFT, directions.RIGHT)
    ]
    assert found[0] != found[1]


@pytest.mark.parametrize("provider", ["cohere", "jina_ai", "hosted_vllm", "huggingface"])
def test_litellm_passes_the_reason_on(service_url: str, provider: str) -> None:
    litellm = pytest.importorskip("litellm", reason="make test-clients")
    with pytest.raises(Exception, match="at most 50"):
        litellm.rerank(
            model=f"{provider}/m", query=QUERY, documents=MANY, api_base=service_url, api_key="any", max_retries=0
        )


async def test_litellm_async(service_url: str) -> None:
    litellm = pytest.importorskip("litellm", reason="make test-clients")
    answer = await litellm.arerank(
        model="cohere/m", query=QUERY, documents=["a", "b", "c"], top_n=1, api_base=service_url, api_key="any"
    )
    assert len(answer.results) == 1


def test_infinity_reads_a_422_as_fastapis(service_url: str) -> None:
    infinity_client = pytest.importorskip("infinity_client", reason="make test-clients")
    rerank = pytest.importorskip("infinity_client.api.default.rerank")
    models = pytest.importorskip("infinity_client.models")
    with infinity_client.Client(base_url=service_url) as client:
        found = rerank.sync(client=client, body=models.RerankInput(query=QUERY, documents=MANY))
    assert isinstance(found, models.HTTPValidationError)
    assert found.detail[0].loc == ["body", "documents"]
    assert "at most 50" in found.detail[0].msg


def test_an_address_under_a_path_is_not_expected(service_url: str) -> None:
    """Clients join paths to the root: what they post to the root itself (a page is there) is refused with JSON, too."""
    answer = httpx.post(service_url, json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
