"""Loads on replicas, and what became of them: repeated queries, a kill, more and fewer replicas. For `replicas`."""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.http_load import closed_loop, processes_of
from benchmarks.served import Served
from benchmarks.texts import Texts
from loadtest.sender import LOST, Answer, Sender

NUM_CLIENTS = 8
NUM_DOCUMENTS = 20
LOOK_EVERY_S = 0.5
REPLICA_TITLE = "ray::ServeReplica"
# A popular query is asked for as often as its rank's inverse: web traffic is about that uneven.
NUM_QUERIES = 150
QUERY_WORDS = 12
ROUTED_DOCUMENTS = 5


def replica_pids(served: Served) -> list[int]:
    """The processes that score."""
    found = []
    for pid in processes_of(served.pid):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:  # ended meanwhile
            continue
        if title.startswith(REPLICA_TITLE):
            found.append(pid)
    return found


def num_ready(served: Served) -> int:
    """Replicas that a scrape shows."""
    return sum(series.startswith("relevance_ready{") and value == 1 for series, value in served.metrics().items())


def by_source(served: Served, name: str) -> Counter[str]:
    """A counter with the label `source`, all replicas added up."""
    total: Counter[str] = Counter()
    for series, value in served.metrics().items():
        if series.startswith(f"relevance_{name}_total{{"):
            total[series.partition('source="')[2].rstrip('"}')] += int(value)
    return total


def repeated(seed: int) -> Iterator[bytes]:
    """Bodies whose queries come again, as in traffic, and whose documents never do."""
    queries = [f"{Texts(None, 7 * place).request(0)['query']} " * (QUERY_WORDS // 4) for place in range(NUM_QUERIES)]
    texts, rng = Texts(None, seed), random.Random(seed)
    weights = [1 / (place + 1) for place in range(NUM_QUERIES)]
    while True:
        (query,) = rng.choices(queries, weights)
        yield json.dumps({**texts.request(ROUTED_DOCUMENTS), "query": query}).encode()


async def send_repeated(served: Served, seconds: float) -> tuple[list[Answer], float]:
    """A closed loop of repeated queries: the answers, and the seconds they took."""
    answers: list[Answer] = []
    started = time.monotonic()

    async def client(sender: Sender, number: int) -> None:
        for body in repeated(number):
            if time.monotonic() >= started + seconds:
                break
            answers.append(await sender.post("/score", body))

    async with Sender(served.url) as sender:
        await asyncio.gather(*(client(sender, number) for number in range(NUM_CLIENTS)))
    return answers, time.monotonic() - started


def route(served: Served, seconds: float) -> dict[str, Any]:
    """Share of queries whose KV was there or on its way, and documents a second, under repeated queries."""
    before = by_source(served, "prefix_lookups")
    answers, took_s = asyncio.run(send_repeated(served, seconds))
    looked_up = by_source(served, "prefix_lookups") - before
    if any(answer.status != 200 for answer in answers):
        raise RuntimeError(f"not everything was answered: {statuses_of(answers)}")
    return {
        "requests": len(answers),
        "prefix_hit_share": round((looked_up["hit"] + looked_up["shared"]) / max(1, looked_up.total()), 4),
        "documents_per_s": round(len(answers) * ROUTED_DOCUMENTS / took_s, 1),
    }


def statuses_of(answers: Sequence[Answer]) -> dict[str, int]:
    """How many answers of each status; a connection that failed is `lost`."""
    counted = Counter("lost" if answer.status == LOST else str(answer.status) for answer in answers)
    return dict(sorted(counted.items()))


async def _kill_under_load(served: Served, seconds: float) -> tuple[list[Answer], float, float]:
    began = time.monotonic()
    loading = asyncio.create_task(closed_loop(served, [NUM_DOCUMENTS], NUM_CLIENTS, seconds, 31))
    await asyncio.sleep(seconds / 4)
    old = set(replica_pids(served))
    killed_at = time.monotonic()
    os.kill(min(old), signal.SIGKILL)
    while not set(replica_pids(served)) - old or await asyncio.to_thread(num_ready, served) < len(old):
        await asyncio.sleep(LOOK_EVERY_S)
        if time.monotonic() - killed_at > 120:
            raise RuntimeError("the replica that was killed has not been replaced")
    replaced_s = time.monotonic() - killed_at
    answers, _ = await loading
    return answers, replaced_s, time.monotonic() - began


def kill(served: Served, seconds: float) -> dict[str, Any]:
    """One replica ended by SIGKILL under a closed loop: what every request got."""
    answers, replaced_s, _ = asyncio.run(_kill_under_load(served, seconds))
    refused = [answer for answer in answers if answer.status == 503]
    clear = [
        answer
        for answer in refused
        if answer.json()["error"]["code"] == "not_ready" and answer.headers.get("retry-after") == "1"
    ]
    return {
        "clients": NUM_CLIENTS,
        "requests": len(answers),
        "statuses": statuses_of(answers),
        "clear_retryable_errors": len(clear),
        "replaced_s": round(replaced_s, 1),
    }


async def _watch(served: Served, began: float, seen: list[tuple[float, int]]) -> None:
    while True:
        number = await asyncio.to_thread(num_ready, served)
        if not seen or seen[-1][1] != number:
            seen.append((round(time.monotonic() - began, 1), number))
        await asyncio.sleep(LOOK_EVERY_S)


async def _light(served: Served, until: float, seen: list[tuple[float, int]]) -> list[Answer]:
    """One request after the other, a little apart, until one replica is left or the time is over."""
    answers: list[Answer] = []
    texts = Texts(None, 77)
    async with Sender(served.url) as sender:
        while seen[-1][1] > 1 and time.monotonic() < until:
            answers.append(await sender.post("/score", json.dumps(texts.request(NUM_DOCUMENTS)).encode()))
            await asyncio.sleep(LOOK_EVERY_S)
    return answers


async def _up_and_down(served: Served, most: int, seconds: float) -> tuple[list[Answer], list[tuple[float, int]]]:
    began = time.monotonic()
    seen: list[tuple[float, int]] = []
    watching = asyncio.create_task(_watch(served, began, seen))
    answers: list[Answer] = []
    while time.monotonic() < began + seconds and (not seen or seen[-1][1] < most):
        more, _ = await closed_loop(served, [NUM_DOCUMENTS], NUM_CLIENTS, LOOK_EVERY_S, 53 + len(answers))
        answers += more
    answers += await _light(served, time.monotonic() + seconds, seen)
    watching.cancel()
    return answers, seen


def up_and_down(served: Served, most: int, seconds: float) -> dict[str, Any]:
    """A load that queues until `most` replicas are ready, a light one until one is left; `seconds` each, at most."""
    answers, seen = asyncio.run(_up_and_down(served, most, seconds))
    return {
        "requests": len(answers),
        "statuses": statuses_of(answers),
        "most_replicas": max(number for _, number in seen),
        "last_replicas": seen[-1][1],
        "replicas_at_s": seen,
    }
