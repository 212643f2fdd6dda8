"""The whole program: `python -m service` on the tiny artifact, over real HTTP, and how it ends."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from engine.local import LocalScorer
from relevance.pair import Pair
from relevance.scoring import expected_score

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"
BODY = {"query": "usb c cable", "documents": ["USB-C to USB-C 1 m", "HDMI cable", "", "usb " * 400]}


class Program:
    """A running service and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = self.wait_for(r"running on (http://[\d.:]+)")

    def wait_for(self, pattern: str) -> str:
        """The first group of the first log line that matches, reading on until there is one."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            match = re.search(pattern, line)
            if match:
                return match.group(match.lastindex or 0)
        raise AssertionError(f"the program ended without {pattern!r}: {''.join(self.lines)}")

    def wait_until_said(self, text: str) -> None:
        """Until a line of the log holds `text`, of those read before, too: what is ready early may say so early."""
        if not any(text in line for line in self.lines):
            self.wait_for(re.escape(text))

    def metric(self, series: str) -> float:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        (line,) = [line for line in lines if line.startswith(series + " ")]
        return float(line.rsplit(" ", 1)[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


def start(*arguments: str) -> subprocess.Popen[str]:
    """`python -m service`, in one process unless the arguments say otherwise."""
    alone = [] if "--workers" in arguments else ["--workers", "1"]
    command = [sys.executable, "-W", "error", "-m", "service", *alone, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@contextmanager
def running(*arguments: str) -> Iterator[Program]:
    process = start("--artifact", str(TINY), "--port", "0", *arguments)
    try:
        program = Program(process)
        program.wait_for(r"service ready")
        yield program
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running() as one:
        yield one


def ask(program: Program, body: object) -> httpx.Response:
    return httpx.post(f"{program.url}/score", json=body, timeout=30)


def test_it_scores_as_the_same_artifact_does_in_process(program: Program) -> None:
    scorer = LocalScorer.open(TINY)
    expected = scorer.distributions([Pair("usb c cable", document) for document in BODY["documents"]])
    results = ask(program, BODY).json()["results"]
    # 1e-6: fp32 sums in another order, since the service packs otherwise.
    np.testing.assert_allclose([result["distribution"] for result in results], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose([result["score"] for result in results], expected_score(expected), rtol=0, atol=1e-6)
    assert [result["truncated"] for result in results] == [False, False, False, True]


def test_it_is_ready_and_measured(program: Program) -> None:
    before = program.metric('relevance_requests_total{outcome="ok"}')
    response = ask(program, BODY)
    assert response.status_code == 200
    assert "infer;dur=" in response.headers["server-timing"]
    assert program.metric('relevance_requests_total{outcome="ok"}') == before + 1
    assert "_created" not in httpx.get(f"{program.url}/metrics").text
    assert httpx.get(f"{program.url}/readyz").json()["stage"] == "ready"


def test_a_thousand_documents_and_one_in_between(program: Program) -> None:
    documents = [f"cable number {n}" for n in range(1000)]
    results = ask(program, {"query": "usb c cable", "documents": documents}).json()["results"]
    alone = ask(program, {"query": "usb c cable", "documents": [documents[617]]}).json()["results"]
    assert [result["index"] for result in results] == list(range(1000))
    np.testing.assert_allclose(results[617]["distribution"], alone[0]["distribution"], rtol=0, atol=1e-5)


def test_a_client_that_hangs_up_is_noticed(program: Program) -> None:
    body = json.dumps({"query": "hang up", "documents": [f"word {n} " * 100 for n in range(1000)]}).encode()
    scored = program.metric('relevance_requests_total{outcome="ok"}')
    host, port = program.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    while program.metric('relevance_requests_total{outcome="cancelled"}') < 1:
        assert program.metric('relevance_requests_total{outcome="ok"}') == scored, "it was computed to the end"
    while program.metric("relevance_waiting_documents") > 0:
        assert program.process.poll() is None
    assert ask(program, BODY).status_code == 200


def test_no_text_of_a_request_is_logged_and_sigterm_ends_it_well() -> None:
    with running("--access-log") as program:
        for body in ({"query": "secret query", "documents": ["secret document"]}, {"query": "secret", "documents": 1}):
            ask(program, body)
        status = program.stop()
        assert program.process.stderr is not None
        log = "".join(program.lines) + program.process.stderr.read()
    assert status == 0, log
    assert "Application shutdown complete" in log
    assert "secret" not in log
    assert "Traceback" not in log


def test_scores_survive_a_restart(program: Program) -> None:
    with running() as restarted:
        before, after = (ask(one, BODY).json()["results"] for one in (program, restarted))
    # 1e-6: packs are as large as calls are found to pay, so fp32 sums in another order.
    np.testing.assert_allclose(
        [one["distribution"] for one in before], [one["distribution"] for one in after], rtol=0, atol=1e-6
    )
    assert [one["grade"] for one in before] == [one["grade"] for one in after]


def finish(*arguments: str) -> tuple[int, str]:
    process = start(*arguments)
    _, log = process.communicate(timeout=60)
    return process.returncode, log


def test_an_unusable_artifact_or_setting_ends_it_with_the_reason(tmp_path: Path) -> None:
    status, log = finish("--artifact", str(tmp_path / "nowhere"))
    assert (status, "cannot start" in log, "nowhere" in log) == (2, True, True)
    status, log = finish("--port", "many")
    assert (status, "cannot start: port:" in log) == (2, True)
    assert "Traceback" not in log


def test_an_address_in_use_ends_it_with_the_reason(program: Program) -> None:
    status, log = finish("--artifact", str(TINY), "--port", program.url.rsplit(":", 1)[1])
    assert (status, "address already in use" in log) == (3, True)


def test_a_failed_self_test_ends_it_with_the_reason(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "artifact"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["golden_pairs"][0]["distribution"].reverse()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    status, log = finish("--artifact", str(folder), "--port", "0")
    assert status == 4
    assert "stopped: ArtifactError: self-test failed" in log
