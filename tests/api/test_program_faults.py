"""The whole program with a fault put into it: its engine thread dies, its loop hangs. Both end it, and say why."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.api.test_program import TINY, Program

ROOT = Path(__file__).parents[2]
# The program as it is, until it is ready: the next pack ends the thread, as a C extension might.
DYING_ENGINE = """
import sys
from engine.ort import OrtEngine
from service import process
from service.__main__ import main

ready = process._ready

def die(self, documents):
    raise SystemExit("killed")

def ready_to_die():
    OrtEngine.score_documents = die
    ready()

process._ready = ready_to_die
sys.exit(main(sys.argv[1:]))
"""
# Counting the calls of a dialect never comes to an end.
HANGING_LOOP = """
import sys, threading
from service.__main__ import main
from service.metrics import Metrics

def hang(self, dialect):
    threading.Event().wait()

Metrics.count_dialect = hang
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def running(code: str, *arguments: str) -> Iterator[Program]:
    command = [sys.executable, "-c", code, "--artifact", str(TINY), "--port", "0", "--workers", "1", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        program = Program(process)
        program.wait_for("service ready")
        yield program
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def score(program: Program, document: str) -> httpx.Response:
    body = {"query": "q", "documents": [document]}
    return httpx.post(f"{program.url}/score", json=body, timeout=30)


def test_a_dead_engine_thread_fails_who_waits_and_ends_the_program() -> None:
    with running(DYING_ENGINE) as program, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(score, program, f"{number} words") for number in range(4)]
        assert program.process.wait(timeout=30) == 4
        for answer in answers:
            # Whoever came too late for an answer found nobody listening.
            if answer.exception() is None:
                assert answer.result().status_code == 503
                assert answer.result().json()["error"]["code"] in {"engine_dead", "not_ready"}
            else:
                assert isinstance(answer.exception(), httpx.TransportError)
        assert any(answer.exception() is None for answer in answers)
        assert program.process.stderr is not None
        log = "".join(program.lines) + program.process.stderr.read()
        assert "engine_ended" in log
        assert "stopped: SystemExit: killed" in log


def test_a_loop_that_hangs_ends_the_program_and_the_log_says_where() -> None:
    with running(HANGING_LOOP, "--max-loop-stall-seconds", "1.5") as program, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(score, program, "d")
        assert program.process.wait(timeout=30) == 5
        assert isinstance(answer.exception(), httpx.TransportError)
        assert program.process.stderr is not None
        log = "".join(program.lines) + program.process.stderr.read()
        assert re.search(r"stopped: the event loop has been blocked for \d+ s", log)
        assert "loop_stalled" in log
        assert "count_dialect" in log
