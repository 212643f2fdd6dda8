"""Replicas on Ray Serve on this machine: same scores, throughput, routing by query, a kill, scaling under load.

    python -m benchmarks.replicas             writes results/replicas.json
    python -m benchmarks.replicas --quick     a try of a minute and a half

One engine thread a replica, the default artifact, clients on the same cores; no score cache, so that every pair is
computed. In turn, each on a Ray of its own:

    1, 2, 4 replicas     scores of each replica against one engine in this process; documents a second, best of rounds
    2 replicas           repeated queries, routed by query and by Serve's own rule: prefix hits, documents a second;
                         one replica is ended by SIGKILL under load
    1 to 4 replicas      a load that queues, then one that does not: how many ran when, and what was answered

The prefix cache is set so small that one replica cannot hold the KV of all queries (PREFIX_CACHE_MIB), as with a real
search's millions.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import replica_loads
from benchmarks.http_load import closed_loop
from benchmarks.replica_loads import NUM_CLIENTS, NUM_DOCUMENTS
from benchmarks.served import ROOT, Served
from benchmarks.texts import Texts
from benchmarks.workers import best, measure
from engine.local import LocalScorer
from loadtest.sender import Sender
from relevance.pair import Pair
from relevance.provenance import command_line, write_result
from scale.serving.affinity import WORKER_PREFIX
from scale.serving.application import ReplicaSet
from scale.serving.environment import AFFINITY_HEADER
from scale.serving.program import running
from service.settings import Settings

NUM_REPLICAS = (1, 2, 4)
NUM_CHECKED = 12
PREFIX_CACHE_MIB = 16
MOST_REPLICAS = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long each part takes, in seconds."""

    throughput_s: float
    rounds: int
    routing_s: float
    kill_s: float
    scaling_s: float


FULL = Sizes(throughput_s=4.0, rounds=3, routing_s=10.0, kill_s=16.0, scaling_s=60.0)
QUICK = Sizes(throughput_s=2.0, rounds=1, routing_s=4.0, kill_s=10.0, scaling_s=40.0)


@contextmanager
def replicas(artifact: Path, wanted: ReplicaSet) -> Iterator[Served]:
    """A service of its own; its processes are this one's descendants."""
    settings = Settings(artifact=artifact, port=0, score_cache_mib=0, prefix_cache_mib=PREFIX_CACHE_MIB)
    with running(wanted, settings) as served:
        yield Served(served.host, served.port, os.getpid())


async def _ask_each(served: Served, number: int, bodies: Sequence[dict[str, Any]]) -> list[list[list[float]]]:
    """Distributions of all bodies' documents, from each of `number` replicas."""
    found = []
    for replica in range(number):
        headers = {AFFINITY_HEADER: f"{WORKER_PREFIX}{replica}"}
        async with Sender(served.url, headers) as sender:
            answers = [await sender.post("/score", json.dumps(body).encode()) for body in bodies]
        found.append([result["distribution"] for answer in answers for result in answer.json()["results"]])
    return found


def compare(served: Served, number: int, artifact: Path) -> dict[str, Any]:
    """How far each replica's distributions are from those of one engine in this process."""
    texts = Texts(None, 5)
    bodies = [texts.request(NUM_DOCUMENTS) for _ in range(NUM_CHECKED)]
    pairs = [Pair(body["query"], document) for body in bodies for document in body["documents"]]
    wanted = LocalScorer.open(artifact).distributions(pairs).tolist()
    found = asyncio.run(_ask_each(served, number, bodies))
    scraped = served.metrics()
    asked = [value for series, value in scraped.items() if series.startswith("relevance_pairs_total{")]
    differences = [
        abs(one - other)
        for rows in found
        for row, expected in zip(rows, wanted, strict=True)
        for one, other in zip(row, expected, strict=True)
    ]
    return {
        "replicas_asked": sum(value >= len(pairs) for value in asked),
        "pairs_each": len(pairs),
        "equal_to_the_bit": found == [wanted] * number,
        "largest_difference": max(differences),
    }


def throughput(served: Served, sizes: Sizes) -> dict[str, Any]:
    """Documents a second of a closed loop, the best round."""
    asyncio.run(closed_loop(served, [NUM_DOCUMENTS], NUM_CLIENTS, sizes.throughput_s / 2))  # the first are slower
    return best([measure(served, NUM_DOCUMENTS, sizes.throughput_s, 3 + place) for place in range(sizes.rounds)])


def run(artifact: Path, sizes: Sizes) -> dict[str, Any]:
    """All figures."""
    rows, routing, killed = [], {}, {}
    for number in NUM_REPLICAS:
        with replicas(artifact, ReplicaSet(min_replicas=number)) as served:
            row = {"replicas": number, "scores": compare(served, number, artifact), **throughput(served, sizes)}
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            if number == 2:
                routing["by query"] = replica_loads.route(served, sizes.routing_s)
                killed = replica_loads.kill(served, sizes.kill_s)
    with replicas(artifact, ReplicaSet(min_replicas=2, affinity=False)) as served:
        throughput(served, QUICK)  # as warm as the other was
        routing["Serve's own"] = replica_loads.route(served, sizes.routing_s)
    print(json.dumps({"routing": routing, "kill": killed}), file=sys.stderr, flush=True)
    wanted = ReplicaSet(
        min_replicas=1,
        max_replicas=MOST_REPLICAS,
        target_waiting_tokens=1024,
        upscale_delay_s=1,
        downscale_delay_s=2,
        look_back_s=11,
    )
    with replicas(artifact, wanted) as served:
        scaled = replica_loads.up_and_down(served, MOST_REPLICAS, sizes.scaling_s)
    return {"throughput": rows, "routing": routing, "kill": killed, "scaling": scaled}


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "replicas.json")
    args = parser.parse_args(argv)
    figures = {
        "clients": NUM_CLIENTS,
        "documents_a_request": NUM_DOCUMENTS,
        "queries": replica_loads.NUM_QUERIES,
        "routed_documents_a_request": replica_loads.ROUTED_DOCUMENTS,
        "prefix_cache_mib": PREFIX_CACHE_MIB,
        **run(args.artifact, QUICK if args.quick else FULL),
    }
    command = command_line("benchmarks.replicas", argv or sys.argv[1:])
    write_result(args.out, command, figures, ("onnxruntime", "ray"))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
