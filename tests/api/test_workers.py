"""Two workers behind one port: one dies and is replaced, an artifact takes over in both, all end in order."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from service.assembly import num_workers_for
from tests.api.test_operations import HEADERS, KEYS, variant
from tests.api.test_program import TINY, Program, finish, start

BODY = {"query": "usb c cable", "documents": ["USB-C to USB-C 1 m", "HDMI cable"]}


def ask(url: str, path: str = "/score", body: object = BODY) -> httpx.Response:
    # A connection of its own: which worker takes it is open.
    return httpx.post(f"{url}{path}", json=body, headers=HEADERS, timeout=30)


def scrape(url: str, name: str) -> dict[str, float]:
    """Samples of a series by worker."""
    text = httpx.get(f"{url}/metrics", headers=HEADERS, timeout=30).text
    return {m[1]: float(m[2]) for m in re.finditer(rf'^{name}{{worker="(\d)".*?}} (\S+)$', text, re.MULTILINE)}


def served_hashes(url: str) -> dict[str, str]:
    """The artifact of each worker, as a scrape of any shows it."""
    text = httpx.get(f"{url}/metrics", headers=HEADERS, timeout=30).text
    return dict(re.findall(r'^relevance_artifact_info{worker="(\d)".*?hash="(\w+)"', text, re.MULTILINE))


def test_two_workers(tmp_path: Path) -> None:
    process = start("--artifact", str(TINY), "--port", "0", "--workers", "2", "--log-format", "json", *KEYS)
    try:
        program = Program(process)
        for _ in range(2):
            program.wait_for("service ready")
        url = program.url
        answered = 0
        while True:  # until both have answered something
            assert ask(url).status_code == 200
            answered += 1
            ok = scrape(url, "relevance_pairs_total")
            assert sum(ok.values()) == 2 * answered, "the figures of all workers, whichever is scraped"
            if len(ok) == 2 and all(ok.values()):
                break

        other = variant(tmp_path / "other", 0.3)
        before = ask(url).json()["model"]["hash"]
        swapped = ask(url, "/admin/artifact", {"path": str(other)})
        assert swapped.status_code == 200, swapped.text
        after = swapped.json()["model"]["hash"]
        assert before != after
        assert {ask(url).json()["model"]["hash"] for _ in range(12)} == {after}
        assert served_hashes(url) == {"0": after, "1": after}

        refused = ask(url, "/admin/artifact", {"path": str(tmp_path / "nowhere")})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "unusable_artifact")

        pid = worker_of(process.pid)
        os.kill(pid, signal.SIGKILL)
        program.wait_for("worker_died")
        program.lines.clear()  # the swap was told as "service ready", too
        while not any("service ready" in line for line in program.lines):
            # The one that is left answers everything meanwhile.
            assert ask(url).status_code == 200
            program.wait_for(r"\n")
        # Whoever was started anew serves what took over, not what the command line says.
        assert served_hashes(url) == {"0": after, "1": after}
        assert {ask(url).json()["model"]["hash"] for _ in range(12)} == {after}
        assert program.stop() == 0
        assert children_of(process.pid) == []
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def worker_of(pid: int) -> int:
    """A child that has sockets of its own; the others are the interpreter's helpers."""
    return max(children_of(pid))


def test_an_address_in_use_ends_it_before_any_worker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        status, log = finish("--artifact", str(TINY), "--port", str(server.getsockname()[1]), "--workers", "2")
    assert status == 3
    assert "cannot listen: Address already in use" in log


def test_unset_a_small_model_is_served_by_every_core() -> None:
    command = [sys.executable, "-m", "service", "--artifact", str(TINY), "--port", "0", "--log-format", "json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    wanted = num_workers_for(32, len(os.sched_getaffinity(0)))
    try:
        program = Program(process)
        for _ in range(wanted):
            program.wait_for("service ready")
        assert httpx.post(f"{program.url}/score", json={"query": "q", "documents": ["d"]}).status_code == 200
        assert program.stop() == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_an_artifact_without_a_manifest_ends_it_before_any_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "--artifact", str(tmp_path), "--port", "0"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert found.returncode == 2
    assert "cannot start: " in found.stderr
    assert "is this an artifact folder?" in found.stderr
