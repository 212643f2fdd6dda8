"""The real thing on this machine: two replicas of the tiny artifact on Ray Serve, asked over HTTP."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.http_load import processes_of
from engine.local import LocalScorer
from relevance.pair import Pair
from scale.serving.affinity import EXPLAIN_PATH, key_of
from scale.serving.environment import AFFINITY_HEADER
from tests.api.test_operations import HEADERS, KEYS, variant
from tests.api.test_program import TINY, Program

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[scale]', or `make install-dev`")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]

DOCUMENTS = ["USB-C to USB-C 1 m", "HDMI cable", "", "usb " * 400]
BODY: dict[str, Any] = {"query": "usb c cable", "documents": DOCUMENTS}


@pytest.fixture(scope="module")
def served() -> Iterator[Program]:
    command = [sys.executable, "-m", "cli", "serve", "--replicas", "2", "--artifact", str(TINY), "--port", "0", *KEYS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stderr is not None
    reader = threading.Thread(target=process.stderr.read, daemon=True)  # a full pipe would stop it
    try:
        program = Program(process)
        reader.start()
        yield program
        children = processes_of(process.pid)[1:]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert [pid for pid in children if is_alive(pid)] == [], "nothing of Ray's is left behind"
    finally:
        for pid in processes_of(process.pid) if process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        if reader.ident is not None:
            reader.join()
        process.stderr.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def replica_pids(program: Program) -> list[int]:
    return [pid for pid in processes_of(program.process.pid) if title_of(pid).startswith("ray::ServeReplica")]


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""


def ask(program: Program, body: object = None, path: str = "/score", **headers: str) -> httpx.Response:
    headers = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{program.url}{path}", json=BODY if body is None else body, headers=headers, timeout=60)


def at(number: int) -> dict[str, str]:
    """Headers that send a request to the replica of this number."""
    return {AFFINITY_HEADER: f"worker:{number}"}


def scrape(program: Program, name: str) -> dict[str, float]:
    """Samples of a series by replica."""
    text = httpx.get(f"{program.url}/metrics", headers=HEADERS, timeout=60).text
    found = re.finditer(rf'^{name}{{replica="(\w+)".*?}} (\S+)$', text, re.MULTILINE)
    return {match[1]: float(match[2]) for match in found}


def test_every_replica_scores_as_one_process_does(served: Program) -> None:
    found = [ask(served, **at(number)).json()["results"] for number in (0, 1)]
    wanted = LocalScorer.open(TINY).distributions([Pair(BODY["query"], document) for document in DOCUMENTS])
    # 1e-6: fp32 sums in another order, should the service pack otherwise.
    for results in found:
        np.testing.assert_allclose([one["distribution"] for one in results], wanted, rtol=0, atol=1e-6)


def test_a_scrape_shows_both_and_a_query_goes_where_it_went(served: Program) -> None:
    before = scrape(served, "relevance_pairs_total")
    assert len(before) == 2
    for _ in range(4):
        assert ask(served, {"query": "one query", "documents": ["a", "b"]}).status_code == 200
    after = scrape(served, "relevance_pairs_total")
    assert sorted(after[one] - before[one] for one in before) == [0, 8]
    for number in range(12):
        ask(served, {"query": f"query {number}", "documents": ["a"]})
    last = scrape(served, "relevance_pairs_total")
    assert all(last[one] > after[one] for one in after), "many queries go to all"


def test_an_explanation_streams_from_whoever_is_asked(served: Program) -> None:
    for number in (0, 1):
        handle = ask(served, BODY | {"explain": True}, **at(number)).json()["results"][0]["handle"]
        assert key_of(EXPLAIN_PATH, b'{"handle": "%s"}' % handle.encode()) == f"worker:{number}"
        for headers in ({}, at(1 - number)):  # where it leads; and where the texts have to be asked for
            asked = {**HEADERS, "accept": "text/event-stream", **headers}
            url = f"{served.url}{EXPLAIN_PATH}"
            with httpx.stream("POST", url, json={"handle": handle}, headers=asked, timeout=60) as answer:
                assert answer.status_code == 200, answer.read()
                pieces = list(answer.iter_raw())
            events = re.findall(r"^event: (\w+)$", b"".join(pieces).decode(), re.MULTILINE)
            assert (events[0], events[-1]) == ("grade", "done")
            assert len(pieces) > 1, "piece by piece"


def test_errors_keep_their_shape_and_keys_are_asked_for(served: Program) -> None:
    nobody = httpx.post(f"{served.url}/score", json=BODY)
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "unauthorized")
    wrong = ask(served, {"query": " ", "documents": []})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid_fields")
    missing = ask(served, path="/nowhere")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert len(missing.headers.get_list("x-request-id")) == 1


def test_an_artifact_takes_over_in_all_and_in_the_one_that_replaces_a_killed_one(
    served: Program, tmp_path: Path
) -> None:
    swapped = ask(served, {"path": str(variant(tmp_path / "other", 0.3))}, "/admin/artifact")
    assert swapped.status_code == 200, swapped.text
    after = swapped.json()["model"]["hash"]
    assert {ask(served, **at(number)).json()["model"]["hash"] for number in (0, 1)} == {after}

    stop, answers, lock = threading.Event(), list[httpx.Response](), threading.Lock()

    def client(number: int) -> None:
        place = 0
        while not stop.is_set():
            place += 1
            answer = ask(served, {"query": f"client {number} asks {place}", "documents": DOCUMENTS[:2]})
            with lock:
                answers.append(answer)

    old = replica_pids(served)
    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(client, number) for number in range(2)]
        try:
            os.kill(old[0], signal.SIGKILL)
            while len(set(replica_pids(served)) - set(old)) == 0 or len(scrape(served, "relevance_ready")) < 2:
                assert not any(one.done() for one in clients)
        finally:
            stop.set()
        for one in clients:
            one.result()
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 503}
    assert statuses[503] <= len(clients), "at most what was under way at the one that was killed"
    for answer in answers:
        if answer.status_code == 503:
            assert (answer.json()["error"]["code"], answer.headers["retry-after"]) == ("not_ready", "1")
    assert {answer.json()["model"]["hash"] for answer in answers if answer.status_code == 200} == {after}
    assert {ask(served, **at(number)).json()["model"]["hash"] for number in (0, 1)} == {after}


def test_at_the_end_what_is_under_way_is_answered(served: Program) -> None:
    begun = threading.Barrier(3)

    def client(number: int) -> list[int]:
        statuses: list[int] = []
        begun.wait()
        while not statuses or statuses[-1] == 200:
            body = {
                "query": f"last of {number}, {len(statuses)}",
                "documents": [f"{place} usb" for place in range(300)],
            }
            try:
                answer = ask(served, body)
            except httpx.ConnectError:  # nobody listens any more
                break
            statuses.append(answer.status_code)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(client, number) for number in range(2)]
        begun.wait()
        ask(served)
        served.process.send_signal(signal.SIGTERM)
        for one in clients:
            statuses = one.result()
            assert statuses[0] == 200
            assert set(statuses) <= {200, 503}
