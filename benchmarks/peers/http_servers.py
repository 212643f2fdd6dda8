"""infinity-emb, a server of other people, in a process of its own: a stock cross-encoder behind POST /rerank.

    INFINITY --engine torch --device cpu --dtype float32 | bfloat16 --batch-size 64

Its batches are formed by its own dynamic batcher, sorted by length. `--no-compile`: with lengths that change from batch
to batch torch.compile recompiles rather than serves.
"""

import collections
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.cross_encoder_peer import cross_encoder
from benchmarks.peers.peer import PeerMissing
from benchmarks.served import Served

HOST = "127.0.0.1"
READY = "Application startup complete"
MODEL = "cross-encoder"
BATCH_SIZE = 64


@contextmanager
def infinity(executable: Path, work: Path, dtype: str) -> Iterator[Served]:
    """The server with the cross-encoder of the work folder, until left. PeerMissing if it did not start."""
    if not executable.is_file():
        raise PeerMissing("infinity-emb is not installed (make install-bench)")
    folder = cross_encoder(work)
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = ["env", "DO_NOT_TRACK=1", "INFINITY_ANONYMOUS_USAGE_STATS=0", "HF_HUB_OFFLINE=1"]
    command += [str(executable), "v2", "--model-id", str(folder.resolve()), "--served-model-name", MODEL]
    command += ["--engine", "torch", "--device", "cpu", "--dtype", dtype, "--batch-size", str(BATCH_SIZE)]
    command += ["--no-compile", "--no-bettertransformer", "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _wait_until_ready(process)
        # A full pipe would stop the server.
        threading.Thread(target=lambda: collections.deque(process.stdout or (), maxlen=0), daemon=True).start()
        yield Served(HOST, port, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(process: "subprocess.Popen[str]") -> None:
    lines: collections.deque[str] = collections.deque(maxlen=5)
    for line in process.stdout or ():
        lines.append(line)
        if READY in line:
            return
    raise PeerMissing(f"infinity-emb ended before it was ready: {' '.join(lines)[-300:]}")
