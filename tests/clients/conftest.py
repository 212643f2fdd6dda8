"""The running service, a process of its own beside the clients."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny_artifact"


def wait_for(process: subprocess.Popen[str], pattern: str) -> str:
    """The first group of the first line of its log that matches."""
    assert process.stderr is not None
    log = ""
    for line in process.stderr:
        log += line
        if match := re.search(pattern, line):
            return match.group(match.lastindex or 0)
    raise AssertionError(f"the service ended: {log}")


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Address of a service over the tiny artifact."""
    command = [sys.executable, "-m", "service", "--artifact", str(TINY), "--port", "0", *arguments]
    command += ["--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            url = wait_for(process, r"running on (http://[\d.:]+)")
            wait_for(process, "service ready")
            yield url
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    """A service that takes at most 50 documents."""
    with running("--max-documents", "50") as url:
        yield url


@pytest.fixture(scope="session")
def narrow_url() -> Iterator[str]:
    """A service that admits nothing while anything waits."""
    with running("--max-waiting-tokens", "1", "--score-cache-mib", "0") as url:
        yield url


@contextmanager
def overloaded(narrow_url: str) -> Iterator[None]:
    """While a thousand long documents wait at the narrow service; hanging up at the end takes them back.

    They are soon scored: import and build the client first, and only make its call in here.
    """
    body = json.dumps({"query": "q", "documents": [f"word {n} " * 100 for n in range(1000)]}).encode()
    host, port = narrow_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while "relevance_waiting_documents 0.0" in httpx.get(f"{narrow_url}/metrics").text:
            pass
        yield
