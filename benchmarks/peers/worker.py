"""A peer in a process of its own, so that no library meets another's threads: JSON lines in, JSON lines out.

    python -m benchmarks.peers.worker '{"setting": ..., "files": ..., "threads": 2, "batch_tokens": [1024]}'
    python -m benchmarks.peers.worker '{"setting": ..., "files": ..., "prepare": true}'      make its files, and end

    {"query": "...", "documents": [...]}  ->  {"seconds", "processor_s", "logits": [[...]], "computed_tokens"}
    {"tune": {"query", "documents"}}      ->  {"batch_tokens": ...}       the fastest of the sizes offered, kept

Seconds are of `score` alone, taken here: starting, reading and writing lines do not count; `processor_s` is what all
threads of the process took meanwhile. The first line out says that
the model is loaded, or why not.
"""

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from benchmarks.http_load import memory_mib
from benchmarks.peers.peer import Files, Peer, PeerMissing, Scored, Setting
from benchmarks.peers.prompts import PaddedPeer
from relevance.provenance import versions


class Worker:
    """The peer of this process, with the batch sizes it may choose from."""

    def __init__(self, peer: Peer, batch_tokens: list[int]) -> None:
        self._peer = peer
        self._sizes = batch_tokens

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One line for one line."""
        if "tune" in request:
            return {"batch_tokens": self._tune(request["tune"]), "resident_mib": self._resident_mib()}
        gc.collect()
        before = time.process_time()
        scored, seconds = self._timed(request)
        return {
            "seconds": seconds,
            "processor_s": time.process_time() - before,
            "logits": scored.logits.tolist(),
            "computed_tokens": scored.computed_tokens,
        }

    def _timed(self, request: dict[str, Any]) -> tuple[Scored, float]:
        started = time.perf_counter()
        scored = self._peer.score(request["query"], request["documents"])
        return scored, time.perf_counter() - started

    def _tune(self, request: dict[str, Any]) -> int:
        """The best of the batch sizes, each tried behind a run that warms it up; memory is of the one model kept."""
        self._timed(request)
        if len(self._sizes) == 1 or not isinstance(self._peer, PaddedPeer):
            return self._sizes[0]
        taken: dict[int, float] = {}
        for size in self._sizes:
            self._peer.batch_tokens = size
            self._timed(request)
            taken[size] = min(self._timed(request)[1] for _ in range(2))
        self._peer.batch_tokens = min(taken, key=taken.__getitem__)
        return self._peer.batch_tokens

    def _resident_mib(self) -> float:
        return round(memory_mib([os.getpid()])["resident"], 1)


def serve(order: dict[str, Any], requests: IO[str], answers: IO[str]) -> None:
    """Load the peer and answer until the requests end, or only prepare it."""

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line) + "\n")
        answers.flush()

    setting = Setting(**order["setting"])
    folders = {name: Path(order["files"][name]) for name in ("checkpoint", "artifact", "work")}
    files = Files(**folders, spec=order["files"]["spec"])
    module = importlib.import_module(f"benchmarks.peers.{setting.module}")
    try:
        if order.get("prepare"):
            module.prepare(files, setting)
            say({"ready": True, "versions": {}})
            return
        worker = Worker(
            module.open_peer(files, setting, order["threads"], order["batch_tokens"][0]), order["batch_tokens"]
        )
    except PeerMissing as missing:
        say({"missing": str(missing)})
        return
    say({"ready": True, "versions": versions(setting.libraries)})
    for line in requests:
        say(worker.answer(json.loads(line)))


def main() -> None:
    """Keep the real standard output for answers: libraries print on it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(json.loads(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
