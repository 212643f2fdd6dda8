"""Ray Serve's hook: which replicas it is offered, and in what order."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve's own, at its import
    pytest.importorskip("ray.serve", reason="Ray is not installed: pip install -e '.[scale]', or `make install-dev`")
    from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID

    from scale.serving.router import PrefixRouter

from scale.serving.affinity import rendezvous

DEPLOYMENT = DeploymentID("scorer", "answer-first")
NAMES = ["ntwpft26", "zycw5l4u", "8rtkc3s8"]


@pytest.fixture
def router() -> PrefixRouter:
    made = PrefixRouter(DEPLOYMENT, DeploymentHandleSource.UNKNOWN, use_replica_queue_len_cache=True)
    made.initialize_state(bound=2)
    return made


def replica(name: str, number: int) -> Any:
    return SimpleNamespace(replica_id=ReplicaID(name, DEPLOYMENT), replica_metadata={"number": number})


CANDIDATES = [replica(name, number) for number, name in enumerate(NAMES)]


async def ranks(router: PrefixRouter, key: str) -> list[list[str]]:
    context = SimpleNamespace(should_backoff=False)
    request: Any = SimpleNamespace(metadata=SimpleNamespace(session_id=key), routing_context=context)
    found = await router.choose_replicas(CANDIDATES, request)
    assert context.should_backoff, "where all are full it must wait before it looks again"
    return [[one.replica_id.unique_id for one in rank] for rank in found]


async def test_a_query_goes_to_its_replica_and_past_it_only_when_that_is_busy(router: PrefixRouter) -> None:
    order = rendezvous("usb c", NAMES)
    assert await ranks(router, "usb c") == [[name] for name in order]
    for _ in range(3):
        router.on_send_request(ReplicaID(order[0], DEPLOYMENT))
    assert (await ranks(router, "usb c"))[0] == [order[1]]
    router.decrement_queue_len_cache(ReplicaID(order[0], DEPLOYMENT))
    assert (await ranks(router, "usb c"))[0] == [order[0]]


async def test_a_handle_goes_to_its_replica_however_busy_and_elsewhere_when_that_is_gone(router: PrefixRouter) -> None:
    for _ in range(9):
        router.on_send_request(ReplicaID(NAMES[1], DEPLOYMENT))
    assert await ranks(router, "worker:1") == [[NAMES[1]], NAMES]
    first = (await ranks(router, "worker:9"))[0]
    assert first[0] in NAMES


async def test_without_a_key_two_are_drawn_and_all_are_left_to_fall_back_to(router: PrefixRouter) -> None:
    drawn, rest = await ranks(router, "")
    assert len(set(drawn)) == 2
    assert rest == NAMES
    assert {(await ranks(router, ""))[0][0] for _ in range(50)} == set(NAMES)
