"""Whole runs: against a server that answers one at a time and stalls once, and against the real service."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtest.__main__ import EXIT_FAILED, EXIT_PLAN, main
from loadtest.compare import compare, comparison_table
from loadtest.compare import main as compare_main
from loadtest.report import render
from tests.api.test_program import Program, running

STALL_S = 0.6
PLAN = """
name = "A <plan> & more"
slo_ms = 200
[mix]
documents = {{ 2 = 1.0 }}
{mix}
[senders]
processes = {processes}
"""
ONE_OPEN = '[[phases]]\nkind = "open"\nname = "steady"\nrate = 40\narrivals = "constant"\nseconds = {seconds}\n'


class _OneAtATime(BaseHTTPRequestHandler):
    """Answers at once, except the first request after the tenth, which holds up all others."""

    protocol_version = "HTTP/1.0"
    num_answered = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        _OneAtATime.num_answered += 1
        if _OneAtATime.num_answered == 11:
            threading.Event().wait(STALL_S)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"coverage": 1.0}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def one_at_a_time() -> Iterator[str]:
    _OneAtATime.num_answered = 0
    HTTPServer.request_queue_size = 128
    with HTTPServer(("127.0.0.1", 0), _OneAtATime) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(tmp_path: Path, url: str, text: str, *more: str) -> dict[str, Any]:
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    out = tmp_path / "result.json"
    status = main([str(tmp_path / "plan.toml"), "--url", url, "--json", str(out), *more])
    assert status in (0, 3), "3: a busy machine made the senders late"
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return result


def test_a_stall_is_felt_by_every_request_that_was_due_meanwhile(tmp_path: Path) -> None:
    text = PLAN.format(processes=1, mix="") + ONE_OPEN.format(seconds=1.5) + "warm_up_seconds = 0\n"
    with one_at_a_time() as url:
        result = run(tmp_path, url, text)
    (level,) = result["levels"]
    assert level["sent"] == 60
    assert level["outcomes"] == {"ok": 60}
    # A client that waits for its answers would have seen one slow request. Of those due within the stall's first
    # two thirds, 16 at 40 a second, each waited for more than a third of it.
    slow = sum(share for ms, share in _steps(level["cdf"]) if ms >= 1000 * STALL_S / 3)
    assert slow * 60 >= 12
    assert level["good_share"] < 0.9
    assert "service" not in level


def _steps(cdf: list[list[float]]) -> list[tuple[float, float]]:
    shares = [0.0, *(share for _, share in cdf)]
    return [(ms, share - before) for (ms, share), before in zip(cdf, shares, strict=False)]


@pytest.fixture(scope="module")
def service() -> Iterator[Program]:
    with running() as program:
        yield program


@pytest.fixture(scope="module")
def result(service: Program, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A closed loop, a short ramp that breaks at once by its promise, and an open loop with repeated requests."""
    phases = """
[[phases]]
kind = "closed"
name = "two clients"
clients = 2
seconds = 0.6
warm_up_seconds = 0.2
[[phases]]
kind = "ramp"
name = "ramp"
start = "20% of closed"
factor = 1.2
refine = 0
max_levels = 2
seconds = 0.6
warm_up_seconds = 0.2
good_share = 0.01
[[phases]]
kind = "open"
name = "half"
rate = "50% of knee"
seconds = 1.0
warm_up_seconds = 0.3
"""
    text = PLAN.format(processes=2, mix="cached_share = 0.5\ncached_requests = 3\n").replace(
        "slo_ms = 200", "slo_ms = 10000"
    )
    folder = tmp_path_factory.mktemp("run")
    return run(folder, service.url, text + phases, "--report", str(folder / "report.html"))


def test_every_load_of_a_plan_is_measured(result: dict[str, Any]) -> None:
    assert [level["kind"] for level in result["levels"]] == ["closed", "ramp", "ramp", "open"]
    closed, first, second, half = result["levels"]
    assert closed["offered_rps"] is None
    assert closed["clients"] == 2
    assert first["offered_rps"] == pytest.approx(0.2 * result["closed_rps"], abs=0.01)
    assert second["offered_rps"] == pytest.approx(1.2 * first["offered_rps"], abs=0.01)
    assert result["knee"]["offered_rps"] == second["offered_rps"]
    assert half["offered_rps"] == pytest.approx(second["offered_rps"] / 2, abs=0.01)
    assert result["artifact"]["name"] == "tiny"
    for level in result["levels"]:
        assert level["outcomes"] == {"ok": level["sent"]}
        assert level["good_share"] == 1.0
        assert level["answer_ms"]["p50"] <= level["answer_ms"]["p99"] <= level["answer_ms"]["max"]


def test_client_and_service_count_and_time_the_same_requests(result: dict[str, Any]) -> None:
    for level in result["levels"]:
        told = level["agreement"]
        assert told["counts_agree"]
        assert told["means_agree"]
        # The service's time lies within the client's, request by request.
        assert told["service_p50_ms"] <= told["client_p50_ms"] * 1.002
        parts = sum(times["mean"] for times in level["stages_ms"].values())
        assert parts == pytest.approx(level["answer_ms"]["mean"], rel=0.01)


def test_repeated_requests_come_from_the_cache(result: dict[str, Any]) -> None:
    closed = result["levels"][0]
    assert closed["sent"] >= 10
    # Half are repeated, and were asked once before the first load; the tally is of the load alone.
    assert 0.05 < closed["cache_hit_ratio"] < 0.95
    assert closed["service"]["cache_hit_ratio"] > 0.0


def test_a_report_is_one_file_that_asks_nobody_for_anything(result: dict[str, Any]) -> None:
    page = render(result, result)
    assert page.count("<svg ") == 4
    assert "A &lt;plan&gt; &amp; more" in page
    assert "A <plan>" not in page
    for outside in ("<script", "src=", "@import", "url(http", 'href="http'):
        assert outside not in page.replace('xlink:href="#', "")
    assert "Against the earlier run" in page
    assert "Against the earlier run" not in render(result)


def test_two_runs_beside_each_other(result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = json.loads(json.dumps(result))
    later["levels"][3]["answer_ms"]["p99"] = 2.0 * result["levels"][3]["answer_ms"]["p99"]
    comparison = compare(result, later)
    assert comparison["same_plan"]
    assert comparison["knee_rps"]["change"] == 0.0
    assert comparison["levels"]["half"]["p99_ms"]["change"] == 1.0
    assert "| half | p99_ms |" in comparison_table(comparison)
    for name, one in (("a", result), ("b", later)):
        (tmp_path / name).write_text(json.dumps(one), encoding="utf-8")
    assert compare_main([str(tmp_path / "a"), str(tmp_path / "b"), "--report", str(tmp_path / "c.html")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == comparison
    assert (tmp_path / "c.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_refusing_service_is_counted_as_it_counts(service: Program, tmp_path: Path) -> None:
    text = PLAN.format(processes=1, mix="timeout_ms = 1\n") + ONE_OPEN.format(seconds=0.5) + "warm_up_seconds = 0\n"
    (level,) = run(tmp_path, service.url, text)["levels"]
    assert level["sent"] == 20
    assert level["agreement"]["counts_agree"]
    assert level["outcomes"].get("refused", 0) + level["outcomes"].get("expired", 0) > 10
    assert level["goodput_rps"] < level["offered_rps"]


def test_who_hangs_up_is_counted_and_what_arrived_agrees(service: Program, tmp_path: Path) -> None:
    # Given up within a millisecond, which no answer is faster than.
    text = PLAN.format(processes=1, mix="hang_up_share = 0.5\n").replace("slo_ms = 200", "slo_ms = 0.5")
    (level,) = run(tmp_path, service.url, text + ONE_OPEN.format(seconds=0.5) + "warm_up_seconds = 0\n")["levels"]
    assert level["outcomes"]["cancelled"] >= 3
    assert level["outcomes"]["cancelled"] + level["outcomes"]["ok"] == 20
    assert level["agreement"]["counts_agree"]


def test_explanations_are_asked_for_and_streamed(service: Program, tmp_path: Path) -> None:
    text = PLAN.format(processes=1, mix="explain_share = 1.0\n") + ONE_OPEN.format(seconds=0.2)
    (level,) = run(tmp_path, service.url, text + "warm_up_seconds = 0\n")["levels"]
    assert level["outcomes"] == {"ok": 8}
    assert level["explained"] == {"ok": 8}
    assert 0.0 < level["first_piece_ms"]["p50"] <= level["explain_ms"]["p50"]
    assert level["agreement"]["counts_agree"]


def test_the_last_line_is_the_result(service: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PLAN.format(processes=1, mix="") + ONE_OPEN.format(seconds=0.3) + "warm_up_seconds = 0\n"
    run(tmp_path, service.url, text)
    short = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert short["levels"][0]["name"] == "steady"
    assert short["knee"] is None


@pytest.mark.parametrize(
    ("text", "url", "status", "said"),
    [
        (
            PLAN.format(processes=1, mix="") + ONE_OPEN.format(seconds=1),
            "http://127.0.0.1:9",
            EXIT_FAILED,
            "nothing answers",
        ),
        (
            PLAN.format(processes=1, mix="nonsense = 1") + ONE_OPEN.format(seconds=1),
            "http://127.0.0.1:9",
            EXIT_PLAN,
            "nonsense",
        ),
    ],
)
def test_what_cannot_be_run_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, url: str, status: int, said: str
) -> None:
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    assert main([str(tmp_path / "plan.toml"), "--url", url]) == status
    assert said in capsys.readouterr().err


def test_a_wrong_path_is_said_at_once(service: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.format(processes=1, mix='path = "/nowhere"') + ONE_OPEN.format(seconds=1))
    assert main([str(tmp_path / "plan.toml"), "--url", service.url]) == EXIT_FAILED
    assert "status 404" in capsys.readouterr().err
