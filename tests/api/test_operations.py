"""The whole program under what happens to a server: an end under load, another artifact under load, a full disk."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.local import LocalScorer
from relevance.pair import Pair
from tests.api.test_program import TINY, Program, running, start

KEY = "an-admin-key-for-tests"
HEADERS = {"x-api-key": KEY}
KEYS = ("--api-keys", f"ops {KEY} admin")
DOCUMENTS = [f"cable number {n}, {'long ' * (n % 7)}" for n in range(12)]


def variant(folder: Path, temperature: float) -> Path:
    """The tiny artifact with another temperature: other scores, and golden pairs that fit them."""
    shutil.copytree(TINY, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    ratio = manifest["spec"]["temperature"] / temperature
    manifest["spec"]["temperature"] = temperature
    for golden in manifest["golden_pairs"]:
        powers = np.array(golden["distribution"]) ** ratio
        golden["distribution"] = (powers / powers.sum()).tolist()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


class Load:
    """Four clients that ask one thing after the other until told to stop; each counts what it got."""

    def __init__(self, url: str, body: dict[str, Any], check: Callable[[httpx.Response], None]) -> None:
        self.stop = threading.Event()
        self.num_answers = 0
        self.failures: list[Exception] = []
        self._changed = threading.Condition()
        self._url, self._body, self._check = url, body, check
        self._pool = ThreadPoolExecutor(4)
        self._futures = [self._pool.submit(self._ask) for _ in range(4)]
        for future in self._futures:
            future.add_done_callback(self._tell)

    def _tell(self, _: Future[None]) -> None:
        with self._changed:
            self._changed.notify_all()

    def _ask(self) -> None:
        with httpx.Client(timeout=20, headers=HEADERS) as client:
            while not self.stop.is_set():
                try:
                    response = client.post(f"{self._url}/score", json=self._body)
                except httpx.TransportError as error:
                    with self._changed:
                        self.failures.append(error)
                        self._changed.notify_all()
                    return
                self._check(response)
                with self._changed:
                    self.num_answers += 1
                    self._changed.notify_all()

    def wait_for(self, num_answers: int) -> None:
        """Return once there are so many answers, or raise what a client met."""

        def is_decided() -> bool:
            return self.num_answers >= num_answers or any(future.done() for future in self._futures)

        with self._changed:
            assert self._changed.wait_for(is_decided, timeout=60)
        if self.num_answers < num_answers:
            for future in self._futures:
                if future.done():
                    future.result()
            raise AssertionError(f"a client gave up: {self.failures}")

    def finish(self) -> None:
        self.stop.set()
        for future in self._futures:
            future.result(timeout=30)
        self._pool.shutdown()


def rest_of_log(program: Program) -> list[str]:
    assert program.process.stderr is not None
    return [*program.lines, *program.process.stderr]


def test_sigterm_under_load_loses_no_admitted_request() -> None:
    def check(response: httpx.Response) -> None:
        assert response.status_code == 200
        assert len(response.json()["results"]) == 300

    with running("--access-log", "--stop-delay-seconds", "0.3", "--log-format", "json") as program:
        documents = [f"document {n} of some length" for n in range(300)]
        load = Load(program.url, {"query": "usb", "documents": documents}, check)
        load.wait_for(8)
        program.process.send_signal(signal.SIGTERM)
        status = program.process.wait(timeout=30)
        log = rest_of_log(program)
        load.finish()
    assert status == 0, "".join(log)
    requests = [entry for entry in map(json.loads, log) if entry["event"] == "request" and entry["path"] == "/score"]
    # Every request that reached the program was answered, and every answer arrived.
    assert {entry["status"] for entry in requests} == {200}
    assert len(requests) == load.num_answers
    # What failed had been sent to a port nobody listened on any more.
    assert all(
        isinstance(error, httpx.ConnectError | httpx.ReadError | httpx.RemoteProtocolError) for error in load.failures
    )
    assert "Traceback" not in "".join(log)


def test_readiness_goes_first_and_requests_are_answered_meanwhile() -> None:
    with running("--stop-delay-seconds", "2") as program, httpx.Client() as client:
        program.process.send_signal(signal.SIGTERM)
        while (ready := client.get(f"{program.url}/readyz")).status_code == 200:
            pass
        assert ready.json()["stage"] == "draining"
        answer = client.post(f"{program.url}/score", json={"query": "q", "documents": ["d"]})
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert client.get(f"{program.url}/livez").status_code == 200
        assert program.process.wait(timeout=20) == 0


def test_what_is_not_answered_within_the_drain_is_cut_off_and_the_end_is_still_in_order() -> None:
    with running("--drain-seconds", "0", "--max-waiting-tokens", "1000000") as program:
        body = {"query": "q", "documents": [f"word {n} " * 100 for n in range(1000)]}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(httpx.post, f"{program.url}/score", json=body, timeout=30)
            while program.metric("relevance_waiting_documents") == 0:
                assert not asked.done()
            assert program.stop() == 0
            assert asked.result().status_code == 503
            assert asked.result().json()["error"]["code"] == "not_ready"


def spoilt(folder: Path) -> Iterator[tuple[Path, str]]:
    """Artifacts that must not take over, and why."""
    yield Path("/"), "is this an artifact folder?"
    half = Path(shutil.copytree(TINY, folder / "half"))
    graph = half / "model.onnx"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    yield half, "damaged or altered"
    wrong = Path(shutil.copytree(TINY, folder / "wrong"))
    manifest = json.loads((wrong / "manifest.json").read_text())
    manifest["golden_pairs"][0]["distribution"].reverse()
    (wrong / "manifest.json").write_text(json.dumps(manifest))
    yield wrong, "self-test failed"
    # Whole, as its hashes say, and no graph at all.
    empty = Path(shutil.copytree(TINY, folder / "empty"))
    (empty / "model.onnx").write_bytes(b"not a graph")
    manifest = json.loads((empty / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = {"sha256": hashlib.sha256(b"not a graph").hexdigest(), "num_bytes": 11}
    (empty / "manifest.json").write_text(json.dumps(manifest))
    yield empty, "ONNX Runtime cannot load it"


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    return [TINY, variant(tmp_path / "variant", 0.3)]


def test_hot_swaps_under_load_every_answer_is_of_one_artifact(artifacts: list[Path], tmp_path: Path) -> None:
    pairs = [Pair("usb c cable", document) for document in DOCUMENTS]
    served = tmp_path / "served"
    served.symlink_to(artifacts[0])
    expected = {}
    for folder in artifacts:
        scorer = LocalScorer.open(folder)
        expected[scorer.artifact.hash] = scorer.distributions(pairs)
    seen: list[str] = []

    def check(response: httpx.Response) -> None:
        assert response.status_code == 200, response.text
        answer = response.json()
        found = [result["distribution"] for result in answer["results"]]
        # 1e-5: fp32 sums in another order; the artifacts differ by far more.
        np.testing.assert_allclose(found, expected[answer["model"]["hash"]], rtol=0, atol=1e-5)
        seen.append(answer["model"]["hash"])

    first, second = expected
    assert np.abs(expected[first] - expected[second]).max() > 1e-2
    process = start("--artifact", str(served), "--port", "0", *KEYS)
    try:
        program = Program(process)
        program.wait_for("service ready")
        load = Load(program.url, {"query": "usb c cable", "documents": DOCUMENTS}, check)
        load.wait_for(20)
        for number in range(1, 5):
            order = {"path": str(artifacts[number % 2])}
            answer = httpx.post(f"{program.url}/admin/artifact", json=order, headers=HEADERS, timeout=30)
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"]["hash"] == [first, second][number % 2]
            load.wait_for(load.num_answers + 10)
        for folder, reason in spoilt(tmp_path):
            bad = httpx.post(f"{program.url}/admin/artifact", json={"path": str(folder)}, headers=HEADERS, timeout=30)
            assert (bad.status_code, bad.json()["error"]["code"]) == (422, "unusable_artifact")
            assert reason in bad.json()["error"]["message"]
        # SIGHUP: whatever the configured path leads to now.
        served.unlink()
        served.symlink_to(artifacts[1])
        process.send_signal(signal.SIGHUP)
        program.wait_for("reloaded")
        load.wait_for(load.num_answers + 10)
        load.finish()
        assert load.failures == []
        assert set(seen) == {first, second}
        assert seen[0] == first
        assert seen[-1] == second
        assert program.stop() == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@pytest.fixture
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def test_a_full_disk_under_the_log_hurts_no_request(full_disk: int) -> None:
    with httpx.Client(timeout=20) as client:
        port = free_port()
        command = [sys.executable, "-m", "service", "--artifact", str(TINY), "--port", str(port), "--access-log"]
        command += ["--workers", "1"]
        process = subprocess.Popen(command, stderr=full_disk, cwd=Path(__file__).parents[2])
        try:
            url = f"http://127.0.0.1:{port}"
            while not is_ready(client, url):
                assert process.poll() is None
            for _ in range(20):
                assert client.post(f"{url}/score", json={"query": "q", "documents": ["d"]}).status_code == 200
            lost = re.search(r"^relevance_lost_log_lines (\S+)$", client.get(f"{url}/metrics").text, re.MULTILINE)
            assert lost is not None
            assert float(lost[1]) >= 20
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
            process.wait()


def is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
