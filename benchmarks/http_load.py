"""Load on a running service: clients that wait for their answers, or requests that come whatever becomes of others.

closed loop   C clients, each sends its next request when it has its answer: what a service can do
open loop     requests are sent at a rate, at random times: what traffic does
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.served import Served
from benchmarks.texts import Texts
from loadtest.arrivals import due_times
from loadtest.sender import Answer, Sender


def bodies(seed: int, sizes: Sequence[int]) -> Iterator[bytes]:
    """Endless different bodies for /score, the same for a seed, each of as many documents as one of `sizes`."""
    texts, rng = Texts(None, seed), random.Random(seed)
    while True:
        yield json.dumps(texts.request(rng.choice(sizes))).encode()


async def closed_loop(
    service: Served, sizes: Sequence[int], num_clients: int, seconds: float, seed: int = 0
) -> tuple[list[Answer], float]:
    """What `num_clients` clients got that began within `seconds`, and the seconds until the last was answered."""
    answers: list[Answer] = []
    started = time.monotonic()

    async def client(sender: Sender, number: int) -> None:
        for content in bodies(1000 * seed + number, sizes):
            if time.monotonic() >= started + seconds:
                break
            answers.append(await sender.post("/score", content))

    async with Sender(service.url) as sender:
        await asyncio.gather(*(client(sender, number) for number in range(num_clients)))
    return answers, time.monotonic() - started


async def open_loop(service: Served, sizes: Sequence[int], rate: float, seconds: float) -> list[Answer]:
    """What came of requests sent at `rate` a second for `seconds`."""
    answers: list[Answer] = []
    source = bodies(999, sizes)
    began = time.monotonic()
    under_way: set[asyncio.Task[None]] = set()
    async with Sender(service.url) as sender:

        async def one(due_at: float, content: bytes) -> None:
            answers.append(await sender.post("/score", content, due_at))

        for due_s in due_times(rate, seconds, "poisson", seed=0):
            content = next(source)
            await asyncio.sleep(max(0.0, began + due_s - time.monotonic()))
            task = asyncio.create_task(one(began + due_s, content))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    return answers


def percentile_ms(answers: Sequence[Answer], share: float) -> float:
    """Milliseconds that `share` of the answered requests took at most."""
    ordered = sorted(answer.seconds for answer in answers if answer.status == 200)
    if not ordered:
        raise ValueError("nothing was answered")
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def processes_of(pid: int) -> list[int]:
    """A process and its descendants; none where it has ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(one for child in children for one in processes_of(int(child)))]


def memory_mib(pids: Sequence[int]) -> dict[str, float]:
    """Memory of processes together: `resident` counts what they share in each of them, `proportional` once."""
    totals = {"resident": 0.0, "proportional": 0.0}
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        for name, field in (("resident", "Rss"), ("proportional", "Pss")):
            found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
            totals[name] += int(found[1]) / 1024 if found else 0.0
    return totals
