"""Load on a running service: clients that wait for their answers, or requests that come whatever becomes of others.

closed loop   C clients, each sends its next request when it has its answer: what a service can do
open loop     requests are sent at a rate, at random times: what traffic does
"""

import asyncio
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.http_sender import Answer, Sender
from benchmarks.served import Served
from benchmarks.texts import Texts


def bodies(sender: Sender, seed: int, sizes: Sequence[int]) -> Iterator[bytes]:
    """Endless different requests, the same for a seed, each of as many documents as one of `sizes`."""
    texts, rng = Texts(None, seed), random.Random(seed)
    while True:
        yield sender.request("/score", texts.request(rng.choice(sizes)))


async def closed_loop(
    service: Served, sizes: Sequence[int], num_clients: int, seconds: float, seed: int = 0
) -> tuple[list[Answer], float]:
    """What `num_clients` clients got that began within `seconds`, and the seconds until the last was answered."""
    answers: list[Answer] = []
    started = time.perf_counter()

    async def client(number: int) -> None:
        sender = Sender(service.host, service.port)
        for request in bodies(sender, 1000 * seed + number, sizes):
            if time.perf_counter() >= started + seconds:
                break
            answers.append(await sender.send(request))
        await sender.close()

    await asyncio.gather(*(client(number) for number in range(num_clients)))
    return answers, time.perf_counter() - started


async def open_loop(service: Served, sizes: Sequence[int], rate: float, seconds: float) -> list[Answer]:
    """What came of requests sent at `rate` a second for `seconds`."""
    rng = random.Random(0)
    answers: list[Answer] = []
    sender = Sender(service.host, service.port)
    source = bodies(sender, 999, sizes)

    async def one(due_at: float, request: bytes) -> None:
        answers.append(await sender.send(request, due_at))

    began = time.perf_counter()
    under_way: set[asyncio.Task[None]] = set()
    due_at = began + rng.expovariate(rate)
    while due_at < began + seconds:
        request = next(source)
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        task = asyncio.create_task(one(due_at, request))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        due_at += rng.expovariate(rate)
    await asyncio.gather(*under_way)
    await sender.close()
    return answers


def percentile_ms(answers: Sequence[Answer], share: float) -> float:
    """Milliseconds that `share` of the answered requests took at most."""
    ordered = sorted(answer.seconds for answer in answers if answer.status == 200)
    if not ordered:
        raise ValueError("nothing was answered")
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def processes_of(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found.extend(processes_of(int(child)))
    return found


def memory_mib(pids: Sequence[int]) -> dict[str, float]:
    """Memory of processes together: `resident` counts what they share in each of them, `proportional` once."""
    totals = {"resident": 0.0, "proportional": 0.0}
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        for name, field in (("resident", "Rss"), ("proportional", "Pss")):
            found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
            totals[name] += int(found[1]) / 1024 if found else 0.0
    return totals
