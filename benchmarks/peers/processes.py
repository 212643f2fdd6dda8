"""The other side of `benchmarks.peers.worker`: start one for each setting, ask, end."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.peers.peer import Files, PeerMissing, Setting
from benchmarks.peers.workloads import Workload

ROOT = Path(__file__).parents[2]
TAIL = 300


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer of a worker."""

    seconds: float
    processor_s: float
    """What all its threads took meanwhile."""
    logits: "np.ndarray[Any, np.dtype[np.float32]]"
    computed_tokens: int


class Process:
    """A worker that is loaded."""

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors
        first = self._read()
        if "missing" in first:
            raise PeerMissing(first["missing"])
        self.versions: dict[str, str] = first["versions"]

    def tune(self, workload: Workload) -> dict[str, Any]:
        """Let it warm up and choose its batch size: `batch_tokens`, `resident_mib`."""
        return self._ask({"tune": {"query": workload.query, "documents": workload.documents}})

    def score(self, workload: Workload) -> Timed:
        """One run."""
        found = self._ask({"query": workload.query, "documents": workload.documents})
        logits = np.array(found["logits"], dtype=np.float32)
        return Timed(found["seconds"], found["processor_s"], logits, found["computed_tokens"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip()[-TAIL:]
            raise PeerMissing(f"its process ended with status {self._process.returncode}: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def started(setting: Setting, files: Files, threads: int, batch_tokens: Sequence[int]) -> Iterator[Process]:
    """A loaded worker, ended afterwards; PeerMissing says why there is none."""
    with _process(setting, files, {"threads": threads, "batch_tokens": list(batch_tokens)}) as process:
        yield process


def prepare(setting: Setting, files: Files) -> None:
    """Let a process make the files of a setting and end; PeerMissing says why it could not."""
    files.work.mkdir(parents=True, exist_ok=True)
    with _process(setting, files, {"prepare": True}):
        pass


@contextmanager
def _process(setting: Setting, files: Files, how: dict[str, Any]) -> Iterator[Process]:
    folders = {name: str(getattr(files, name).resolve()) for name in ("checkpoint", "artifact", "work")}
    order = {"setting": asdict(setting), "files": {**folders, "spec": files.spec}, **how}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.worker", json.dumps(order)]
    with tempfile.TemporaryFile() as errors, ExitStack() as stack:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
        )
        stack.enter_context(process)  # waits for it, closes its pipes
        stack.callback(process.kill)
        yield Process(process, errors)
