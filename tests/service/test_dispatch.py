"""Which dialect a request speaks."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.dialect import Dialect, anything_else, has
from service.dialects import discover
from service.dispatch import Dispatch

DISPATCH = Dispatch(discover())


@pytest.mark.parametrize(
    ("path", "fields", "dialect"),
    [
        ("/score", ["query", "documents"], "native"),
        ("/score", ["pairs"], "native"),
        ("/score", [], "native"),
        ("/score", ["documents"], "native"),
        ("/score", ["queries", "documents"], "vllm"),
        ("/score", ["text_1", "text_2"], "vllm"),
        ("/score", ["data_1", "data_2"], "vllm"),
        ("/score", ["text_2"], "vllm"),
        ("/score", ["query", "items", "label_token_ids"], "sglang"),
        ("/score", ["queries", "label_token_ids"], "sglang"),
        ("/v1/score", [], "vllm"),
        ("/v1/score", ["query", "items", "label_token_ids"], "sglang"),
        ("/v2/rerank", ["texts"], "cohere"),
        ("/v1/rerank", ["texts"], "jina"),
        ("/rerank", ["query", "texts"], "tei"),
        ("/rerank", ["query", "documents"], "jina"),
        ("/rerank", ["query", "documents", "texts"], "tei"),
        ("/rerank", [], "tei"),
        ("/predict", ["documents"], "tei"),
        ("/invocations", ["pairs"], "native"),
        ("/invocations", ["query", "documents"], "jina"),
        ("/invocations", ["texts"], "tei"),
        ("/invocations", ["inputs"], "tei"),
        ("/invocations", ["queries"], "vllm"),
        ("/invocations", ["label_token_ids"], "sglang"),
        ("/invocations", [], "jina"),
    ],
)
def test_fields_tell(path: str, fields: list[str], dialect: str) -> None:
    assert DISPATCH.match(path, dict.fromkeys(fields))[0].name == dialect


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/score", "native"),
        ("/rerank", "tei"),
        ("/info", "tei"),
        ("/v1/models", "vllm"),
        ("/v1/embeddings", "vllm"),
        ("/v1/rerank", "jina"),
        ("/v1/rerank/", "jina"),
        ("/v2/rerank", "cohere"),
        ("/v2/chat", "cohere"),
        ("/", "native"),
        ("/v3/rerank", "native"),
    ],
)
def test_without_fields_the_path_tells(path: str, dialect: str) -> None:
    assert DISPATCH.dialect_of(path).name == dialect


def test_the_longest_family_tells_whatever_the_order() -> None:
    for dialects in (discover(), reversed(discover())):
        assert Dispatch(dialects).dialect_of("/v1/rerank/").name == "jina"


def test_every_module_of_the_package_is_found() -> None:
    folder = Path(__file__).parents[2] / "service" / "dialects"
    assert [dialect.name for dialect in discover()] == sorted(
        path.stem for path in folder.glob("*.py") if path.stem != "__init__"
    )


def test_a_dialect_is_one_file() -> None:
    for path in (Path(__file__).parents[2] / "service" / "dialects").glob("[a-z]*.py"):
        assert "service.dialects." not in path.read_text(encoding="utf-8").replace("`service.dialects.", ""), path.name


def altered(claim: object) -> list[Dialect]:
    """The dialects, with TEI's claim on /rerank changed."""
    dialects = {dialect.name: dialect for dialect in discover()}
    entry, *others = dialects["tei"].entries
    entry = replace(entry, paths={**entry.paths, "/rerank": claim})
    return [
        *(one for one in dialects.values() if one.name != "tei"),
        replace(dialects["tei"], entries=[entry, *others]),
    ]


def test_a_path_needs_exactly_one_that_takes_anything_else() -> None:
    assert len(Dispatch(altered(anything_else)).dialects) == len(discover())
    with pytest.raises(ValueError, match=r"/rerank needs one entry that takes anything else, has \[\]"):
        Dispatch(altered(has("texts")))
    with pytest.raises(ValueError, match="no dialect 'esperanto'"):
        Dispatch(discover(), fallback="esperanto")
