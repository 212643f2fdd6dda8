"""A service of its own for a benchmark: the real program in a process of its own, on a free port."""

import collections
import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]


class Served:
    """A running service."""

    def __init__(self, host: str, port: int, pid: int) -> None:
        self.host = host
        self.port = port
        self.pid = pid

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.port}"

    def metrics(self) -> dict[str, float]:
        """Every series of /metrics and its value."""
        with urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {series: float(value) for series, value in pairs}


@contextmanager
def serving(artifact: Path, *arguments: str, num_workers: int = 1) -> Iterator[Served]:
    """`python -m service` on `artifact`, every worker ready; ended afterwards.

    Raises:
        RuntimeError: it ended before it was ready.
    """
    command = [sys.executable, "-m", "service", "--artifact", str(artifact), "--port", "0", "--log-format", "text"]
    command += ["--workers", str(num_workers), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    # A full pipe would stop the service.
    drain = threading.Thread(target=lambda: collections.deque(process.stderr or (), maxlen=0), daemon=True)
    with process.stderr or contextlib.nullcontext():
        try:
            served = _wait_until_ready(process, num_workers)
            drain.start()
            yield served
        finally:
            process.terminate()
            process.wait(timeout=30)
            if drain.is_alive():
                drain.join()


def _wait_until_ready(process: "subprocess.Popen[str]", num_workers: int) -> Served:
    lines: list[str] = []
    num_ready = 0
    address: Served | None = None
    for line in process.stderr or ():
        lines.append(line)
        found = re.search(r"running on http://([\d.]+):(\d+)", line)
        if found:
            address = Served(found[1], int(found[2]), process.pid)
        num_ready += "service ready" in line
        if address is not None and num_ready == num_workers:
            return address
    raise RuntimeError(f"the service ended: {''.join(lines)}")


def figures_of(before: dict[str, float], after: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    """How much each series has grown."""
    return {name: after[name] - before[name] for name in names}
