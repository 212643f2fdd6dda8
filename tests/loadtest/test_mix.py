"""Requests are a function of plan, seed and number."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtest.mix import Requests
from loadtest.plan import InvalidPlanError, Mix


def bodies(mix: Mix, number: int, seed: int = 0) -> list[dict[str, Any]]:
    requests = Requests(mix, 200.0, seed)
    return [json.loads(requests.request(n).content) for n in range(number)]


def test_the_same_numbers_give_the_same_requests_in_any_order() -> None:
    mix = Mix(documents={3: 0.5, 5: 0.5}, cached_share=0.3, explain_share=0.2, hang_up_share=0.1)
    one, other = Requests(mix, 200.0, 7), Requests(mix, 200.0, 7)
    assert [one.request(n) for n in range(50)] == [other.request(n) for n in reversed(range(50))][::-1]
    assert one.request(3) != Requests(mix, 200.0, 8).request(3)


def test_no_two_fresh_requests_share_a_pair() -> None:
    seen = Counter((body["query"], document) for body in bodies(Mix(), 200) for document in body["documents"])
    assert max(seen.values()) == 1


def test_another_run_of_the_plan_asks_for_other_pairs_of_the_same_lengths() -> None:
    first, second = (json.loads(Requests(Mix(), 200.0, 0, mark).request(5).content) for mark in ("a1-", "b2-"))
    assert not set(first["documents"]) & set(second["documents"])
    assert [len(text) for text in first["documents"]] == [len(text) for text in second["documents"]]


def test_repeated_requests_are_the_same_each_time_and_as_many_as_asked_for() -> None:
    shown = Counter(json.dumps(body) for body in bodies(Mix(cached_share=0.5, cached_requests=5), 1000))
    repeated = [number for number in shown.values() if number > 1]
    assert len(repeated) == 5
    assert 430 < sum(repeated) < 570  # 500 expected, standard deviation 16


def test_what_is_repeated_can_be_asked_once_beforehand() -> None:
    requests = Requests(Mix(cached_share=1.0, cached_requests=4, timeout_ms=50), 200.0, 0)
    beforehand = [json.loads(request.content) for request in requests.repeated()]
    assert len(beforehand) == 4
    for number in range(40):
        asked = json.loads(requests.request(number).content)
        assert asked.pop("timeout_ms") == 50
        assert asked in beforehand
    assert list(Requests(Mix(), 200.0, 0).repeated()) == []


def test_sizes_and_shares_are_those_of_the_mix() -> None:
    mix = Mix(documents={1: 0.75, 9: 0.25}, explain_share=0.2, partial_share=0.5, timeout_ms=90, hang_up_share=0.1)
    requests = [Requests(mix, 200.0, 0).request(n) for n in range(2000)]
    assert 0.2 < sum(one.num_documents == 9 for one in requests) / 2000 < 0.3
    assert 0.15 < sum(one.is_explained for one in requests) / 2000 < 0.25
    given_up = [one.hang_up_s for one in requests if one.hang_up_s is not None]
    assert 0.05 < len(given_up) / 2000 < 0.15
    assert 0.0 <= min(given_up) < max(given_up) <= 0.2
    told = [json.loads(one.content) for one in requests]
    assert {body["timeout_ms"] for body in told} == {90}
    assert 0.45 < sum(body.get("partial", False) for body in told) / 2000 < 0.55
    assert [one.is_explained for one in requests] == [body.get("explain", False) for body in told]
    assert all(len(body["documents"]) == one.num_documents for body, one in zip(told, requests, strict=True))


def test_a_request_without_a_deadline_names_none() -> None:
    body = json.loads(Requests(Mix(timeout_ms=90, partial_share=1.0), 200.0, 0).request(1, has_deadline=False).content)
    assert set(body) == {"query", "documents"}


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
def test_texts_come_from_the_file_of_pairs(tmp_path: Path, name: str) -> None:
    rows = [{"query": f"query {n}", "document": f"document {n}", "grade": 1} for n in range(20)]
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    for body in bodies(Mix(pairs=path, documents={4: 1.0}), 30):
        assert body["query"].rpartition(" ")[0] in {row["query"] for row in rows}
        assert {document.rpartition(" ")[0] for document in body["documents"]} <= {row["document"] for row in rows}


@pytest.mark.parametrize("content", ["", '{"query": "q"}\n', "no json\n", "[1]\n"])
def test_a_file_that_holds_no_pairs_stops_the_run(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidPlanError, match="pair"):
        Requests(Mix(pairs=path), 200.0, 0)
