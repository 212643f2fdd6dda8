"""HTTP against HTTP: closed loops of requests of 100 short documents, one server after the other within each round.

    ours         POST /score of the default, no score cache
    infinity     POST /rerank of infinity-emb, a stock six-layer cross-encoder: fewer layers than ours

Clients send their next request when they have their answer. Every request has another query and its own draw of titles,
the same for all servers.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.http_load import memory_mib, percentile_ms, processes_of
from benchmarks.peers.http_servers import MODEL, infinity
from benchmarks.peers.peer import PeerMissing
from benchmarks.peers.workloads import read_texts
from benchmarks.served import Served, serving
from loadtest.sender import Answer, Sender
from relevance.artifact import load_artifact

OURS = "ours, int8"
PEERS = {"infinity-emb fp32": "float32", "infinity-emb bf16": "bfloat16"}
NUM_DOCUMENTS = 100
CONCURRENCY = (1, 8)
WARM_UP_S = 2.0
GIVE_UP_S = 300.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how it is asked."""

    served: Served
    path: str
    fields: dict[str, Any]
    """Of the body, beside query and documents."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What requests are made of."""

    queries: list[str]
    documents: list[str]

    def bodies(self, seed: int, num_documents: int, fields: dict[str, Any]) -> Iterator[bytes]:
        """Endless bodies, the same for a seed; no query twice."""
        rng = random.Random(seed)
        number = 0
        while True:
            number += 1
            query = f"{rng.choice(self.queries)} {seed}-{number}"
            documents = rng.sample(self.documents, num_documents)
            yield json.dumps({"query": query, "documents": documents, **fields}).encode()


async def closed_loop(
    server: Server, texts: Texts, num_documents: int, num_clients: int, seconds: float, seed: int
) -> tuple[list[Answer], float]:
    """Answers to what began within `seconds`, and the seconds until the last of them; RuntimeError at an error."""
    answers: list[Answer] = []
    began = time.monotonic()

    async def client(sender: Sender, number: int) -> None:
        for content in texts.bodies(1000 * seed + number, num_documents, server.fields):
            if time.monotonic() >= began + seconds:
                break
            answer = await sender.post(server.path, content)
            if answer.status != 200:
                raise RuntimeError(f"{server.path}: status {answer.status}: {answer.body[:200]!r}")
            answers.append(answer)

    async with Sender(server.served.url, give_up_s=GIVE_UP_S) as sender:
        await asyncio.gather(*(client(sender, number) for number in range(num_clients)))
    return answers, time.monotonic() - began


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Figures of this part."""
    found = read_texts(args.data / "homedepot" / "test.jsonl.gz")
    texts = Texts(sorted(found), sorted({document for documents in found.values() for document in documents}))
    num_documents = args.counts[0] if args.counts else min(NUM_DOCUMENTS, len(texts.documents))
    rounds, seconds = (1, 2.0) if args.quick else (args.rounds or 4, 6.0)
    wanted = {name: dtype for name, dtype in PEERS.items() if args.only is None or name in args.only}
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(serving(args.artifact, "--score-cache-mib", "0"))
        servers = {OURS: Server(ours, "/score", {})}
        for name, dtype in wanted.items():
            try:
                served = stack.enter_context(infinity(args.infinity, args.work, dtype))
            except PeerMissing as missing:
                skipped[name] = str(missing)
                print(f"skipped: {name}: {missing}", file=sys.stderr)
                continue
            servers[name] = Server(served, "/rerank", {"model": MODEL, "return_documents": False})
        rows = _rounds(servers, texts, num_documents, rounds, seconds)
        memory = {name: memory_mib(processes_of(one.served.pid))["proportional"] for name, one in servers.items()}
    return {
        "model": load_artifact(args.artifact).model_id,
        "documents": num_documents,
        "rounds": rounds,
        "seconds": seconds,
        "quick": args.quick,
        "infinity": infinity_versions(args.infinity) if len(servers) > 1 else {},
        "memory_mib": {name: round(mib) for name, mib in memory.items()},
        "skipped": skipped,
        "rows": rows,
        "ratios": ratios_of(rows),
    }


def _rounds(
    servers: dict[str, Server], texts: Texts, num_documents: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    for server in servers.values():
        asyncio.run(closed_loop(server, texts, num_documents, max(CONCURRENCY), WARM_UP_S, seed=999))
    answers: dict[tuple[int, str], list[Answer]] = {}
    took: dict[tuple[int, str], float] = {}
    for turn in range(rounds):
        for num_clients in CONCURRENCY:
            for name, server in servers.items():
                got, wall = asyncio.run(closed_loop(server, texts, num_documents, num_clients, seconds, seed=turn))
                answers.setdefault((num_clients, name), []).extend(got)
                took[num_clients, name] = took.get((num_clients, name), 0.0) + wall
    rows = []
    for (num_clients, name), got in answers.items():
        row = {
            "clients": num_clients,
            "server": name,
            "requests": len(got),
            "documents_per_s": round(num_documents * len(got) / took[num_clients, name], 1),
            "p50_ms": round(percentile_ms(got, 0.50), 1),
            "p99_ms": round(percentile_ms(got, 0.99), 1),
        }
        print(json.dumps(row), file=sys.stderr)
        rows.append(row)
    return rows


def ratios_of(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times as many documents ours does in a second, and how its p99 compares, by number of clients."""
    ours = {row["clients"]: row for row in rows if row["server"] == OURS}
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["server"] != OURS:
            mine, clients = ours[row["clients"]], row["clients"]
            found.setdefault(row["server"], {}).update(
                {
                    f"documents_per_s, {clients} clients": round(mine["documents_per_s"] / row["documents_per_s"], 3),
                    f"p99, {clients} clients": round(row["p99_ms"] / mine["p99_ms"], 3),
                }
            )
    return found


def infinity_versions(executable: Path) -> dict[str, str]:
    """Versions in the server's own environment."""
    code = (
        "import json; from importlib.metadata import version; "
        "print(json.dumps({n: version(n) for n in ('infinity-emb', 'torch', 'transformers')}))"
    )
    shown = subprocess.run([executable.with_name("python"), "-c", code], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(shown.stdout)
    return versions
