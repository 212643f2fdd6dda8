"""Load over HTTP for the benchmarks: a service started and ended, bodies of varied text, clients that are cheap.

    closed loop   C clients, each sends its next request when it has its answer: what a service can do
    open loop     requests are sent at a rate, whatever becomes of the ones before: what traffic does

The clients speak HTTP/1.1 over asyncio streams with kept connections, about 0.1 ms of processor time a request, so
that on a small machine the figures are the service's and not the client's.
"""

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = (
    "cable",
    "usb",
    "charging",
    "adapter",
    "wool",
    "socks",
    "kitchen",
    "knife",
    "steel",
    "garden",
    "hose",
    "water",
    "filter",
    "pump",
    "running",
    "shoes",
    "light",
    "battery",
    "pack",
    "travel",
    "bag",
    "leather",
    "phone",
    "case",
    "screen",
    "cover",
    "glass",
    "wooden",
    "table",
    "lamp",
    "paint",
    "brush",
    "set",
    "floor",
    "mat",
    "door",
    "lock",
    "key",
    "ring",
)


# Idle ones, and since when.
Connections = deque[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]]
# A service may close what has been idle for long just as the next request is sent.
KEPT_S = 3.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    host: str
    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One request; `seconds` from when it was meant to be sent."""

    status: int
    """0: no answer came."""
    seconds: float


def free_of_caches(rng: random.Random, num_documents: int) -> bytes:
    """The body of a request whose query and documents nobody has sent before, as good as surely."""

    def words(shortest: int, longest: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(shortest, longest))) + f" {rng.randrange(10**9)}"

    body = {"query": words(2, 5), "documents": [words(5, 60) for _ in range(num_documents)]}
    return json.dumps(body).encode()


def bodies(seed: int, sizes: Sequence[int]) -> Iterator[bytes]:
    """Endless different bodies, the same for a seed, each of as many documents as one of `sizes`."""
    rng = random.Random(seed)
    while True:
        yield free_of_caches(rng, rng.choice(sizes))


@contextmanager
def running(*arguments: str) -> Iterator[Service]:
    """A service on a port of its own, ready."""
    command = [sys.executable, "-m", "service", "--port", "0", *arguments]
    num_workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        log, address, num_ready = "", None, 0
        for line in process.stderr:
            log += line
            address = address or re.search(r"running on http://([\d.]+):(\d+)", line)
            num_ready += "service ready" in line
            if address is not None and num_ready == num_workers:
                break
        else:
            raise RuntimeError(f"the service ended: {log}")
        try:
            yield Service(address[1], int(address[2]), process.pid)
        finally:
            process.terminate()
            process.stderr.close()


async def ask(
    service: Service, connections: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]], body: bytes
) -> int:
    """Send one request over a kept connection; the status of the answer, 0 for none."""
    try:
        reader, writer = (
            connections.popleft() if connections else await asyncio.open_connection(service.host, service.port)
        )
        writer.write(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        if b"connection: close" in head.lower():
            writer.close()
        else:
            connections.append((reader, writer, time.monotonic()))
        return int(head[9:12])
    except (OSError, asyncio.IncompleteReadError):
        return 0


async def closed_loop(
    service: Service, sizes: Sequence[int], num_clients: int, seconds: float
) -> tuple[list[Sample], float]:
    """What `num_clients` clients got that began within `seconds`, and the seconds until the last was answered."""
    samples: list[Sample] = []
    started = time.perf_counter()
    end = started + seconds

    async def client(seed: int) -> None:
        connections: Connections = deque()
        for body in bodies(seed, sizes):
            began = time.perf_counter()
            if began >= end:
                break
            status = await ask(service, connections, body)
            samples.append(Sample(status, time.perf_counter() - began))
        for _, writer, _ in connections:
            writer.close()

    await asyncio.gather(*(client(seed) for seed in range(num_clients)))
    return samples, time.perf_counter() - started


async def open_loop(service: Service, sizes: Sequence[int], rate: float, seconds: float) -> list[Sample]:
    """What came of requests sent at `rate` a second, at random times, for `seconds`."""
    rng = random.Random(0)
    samples: list[Sample] = []
    connections: Connections = deque()
    source = bodies(1, sizes)
    began = time.perf_counter()

    async def one(send_at: float, body: bytes) -> None:
        status = await ask(service, connections, body)
        samples.append(Sample(status, time.perf_counter() - send_at))

    under_way: set[asyncio.Task[None]] = set()
    send_at = began + rng.expovariate(rate)
    while send_at < began + seconds:
        body = next(source)
        await asyncio.sleep(max(0.0, send_at - time.perf_counter()))
        task = asyncio.create_task(one(send_at, body))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        send_at += rng.expovariate(rate)
    await asyncio.gather(*under_way)
    for _, writer, _ in connections:
        writer.close()
    return samples


def percentile_ms(samples: Sequence[Sample], share: float) -> float:
    """Milliseconds that `share` of the answered requests took at most."""
    ordered = sorted(sample.seconds for sample in samples if sample.status == 200)
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
