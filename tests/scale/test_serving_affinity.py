"""Which replica a request goes to, on paper."""

import json
from collections import Counter

import pytest

from scale.serving.affinity import key_of, prefer, rendezvous, worker_in
from service.explain_api.handles import Handle, Signer, Ticket, worker_of
from service.explaining.events import Sampling

REPLICAS = ["ntwpft26", "zycw5l4u", "8rtkc3s8", "nwsx46x6"]
HANDLE = Handle(b"a" * 8, b"p" * 16, 2, 7)
SIGNER = Signer(b"k" * 16)


def key(body: object, path: str = "/score") -> str | None:
    return key_of(path, json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"query": "usb c", "documents": ["a"]},
        {"query": "usb c", "texts": ["another"], "truncate": True},
        {"queries": "usb c", "documents": ["a"]},
        {"text_1": ["usb c"], "text_2": ["a"]},
        {"data_1": "usb c", "data_2": "a"},
    ],
)
def test_every_dialect_gives_a_query_the_same_key(body: object) -> None:
    assert key(body) == key({"query": "usb c"})
    assert key(body) != key({"query": "usb b"})


def test_a_key_is_plain_whatever_the_query_holds() -> None:
    found = key({"query": "кабель\r\nx-evil: 1"})
    assert found is not None
    assert found.isascii()
    assert found.isalnum()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"query": 3}', b'{"queries": []}', b'{"documents": ["a"]}'])
def test_what_has_no_query_has_no_key(body: bytes) -> None:
    assert key_of("/score", body) is None


def test_a_handle_asks_for_the_replica_that_gave_it() -> None:
    handle = SIGNER.write_handle(HANDLE)
    ticket = SIGNER.write_ticket(Ticket(HANDLE, Sampling(None, 0.0, 0)))
    assert worker_of(handle) == worker_of(ticket) == 7
    keys = [
        key({"handle": handle}, "/explain"),
        key({"handles": [handle]}, "/explain"),
        key_of(f"/explain/{ticket}", b""),
    ]
    assert keys == ["worker:7"] * 3
    assert [worker_in(one) for one in keys if one] == [7] * 3


@pytest.mark.parametrize("text", ["", "x", "не", "AAAA", "A" * 58])
def test_what_is_no_handle_names_nobody(text: str) -> None:
    assert worker_of(text) is None
    assert key({"handle": text}, "/explain") is None


def test_a_pair_to_be_explained_goes_where_its_query_goes() -> None:
    pair = {"query": "usb c", "document": "a cable"}
    assert key(pair, "/explain") == key({"query": "usb c", "documents": []})
    assert worker_in(key(pair, "/explain") or "") is None


def test_keys_spread_and_only_those_of_a_lost_replica_move() -> None:
    keys = [f"query {number}" for number in range(2000)]
    first = {key: rendezvous(key, REPLICAS)[0] for key in keys}
    shares = Counter(first.values())
    assert all(400 < shares[replica] < 600 for replica in REPLICAS), shares
    without = {key: rendezvous(key, REPLICAS[:-1])[0] for key in keys}
    assert all(without[key] == first[key] for key in keys if first[key] != REPLICAS[-1])
    # The order in which they are known makes no difference.
    assert all(rendezvous(key, reversed(REPLICAS)) == rendezvous(key, REPLICAS) for key in keys[:50])


def test_a_busy_replica_is_passed_over_for_the_next_of_the_same_query() -> None:
    order = rendezvous("usb c", REPLICAS)
    first, second, third, _ = order
    assert prefer(order, {}, bound=4) == order
    assert prefer(order, {first: 4}, bound=4) == order, "as many over the least busy one as the bound"
    assert prefer(order, {first: 5}, bound=4)[0] == second
    assert prefer(order, {first: 5, second: 5}, bound=4)[0] == third
    assert prefer(order, dict.fromkeys(order, 50), bound=0) == order, "all alike: the affine one"
    assert sorted(prefer(order, {first: 5}, bound=4)) == sorted(order), "the others stay to fall back to"
    assert prefer([], {}, bound=1) == []
