"""The running service, a process of its own beside the clients."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    """Address of a service over the tiny artifact that takes at most 50 documents."""
    command = [sys.executable, "-m", "service", "--artifact", str(TINY), "--port", "0", "--max-documents", "50"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            url = wait_for(process, r"running on (http://[\d.:]+)")
            wait_for(process, "service ready")
            yield url
        finally:
            process.terminate()
