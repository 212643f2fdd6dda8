"""Where a request's processor time goes: the model, the tokenizer, or Python around them.

    python -m benchmarks.hot_path [--requests 20] [--out results/hot_path.json]

The real application with the real engine in this process, spoken to through ASGI; no score cache, no two texts alike.
Processor time, not wall time, of each thread, so that other load on the machine counts little:

    model      inside ONNX Runtime's `run`
    engine     the rest of the engine thread: rows, schedule, results
    tokenise   the tokenising threads; short requests are tokenised on the loop
    loop       the event loop: HTTP, validation, admission, answer

Beside it the steps of every pack whose form was changed, in the former and in the present form by turns. What must not
grow is counted, not timed, in `tests/performance`.
"""

import argparse
import asyncio
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray

from benchmarks.texts import Texts
from engine.ort import OrtEngine
from engine.session import GraphSession
from relevance.artifact import Artifact, load_artifact
from relevance.provenance import command_line, write_result
from service.app import ProcessHooks, create_app
from service.cost import _positive_fit
from service.settings import Settings

NUM_DOCUMENTS = (1, 10, 100, 300)
NUM_WARM_UP = 3


class ModelTime:
    """Processor seconds spent inside ONNX Runtime by the engine thread."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def build(self, artifact: Artifact) -> OrtEngine:
        """An engine whose runs are timed."""
        session = GraphSession(artifact, num_threads=1)
        run = session.onnx.run

        def timed(*arguments: Any) -> Any:
            began = time.thread_time()
            values = run(*arguments)
            self.seconds += time.thread_time() - began
            return values

        session.onnx.run = timed
        return OrtEngine(artifact, session=session)


def thread_seconds() -> dict[str, float]:
    """Processor seconds of this process's threads, by kind."""
    seconds = {"loop": 0.0, "engine": 0.0, "tokenise": 0.0}
    for thread in threading.enumerate():
        kind = "loop" if thread is threading.main_thread() else thread.name.partition("_")[0]
        if kind in seconds and thread.ident is not None:
            seconds[kind] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return seconds


async def ask(app: FastAPI, body: bytes) -> None:
    """One POST /score through ASGI."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/score", "raw_path": b"/score", "query_string": b"", "headers": headers}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        for message in messages:
            return message
        await asyncio.Event().wait()  # nobody hangs up
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    await app(scope, receive, send)
    if statuses != [200]:
        raise RuntimeError(f"status {statuses}")


async def measure(
    app: FastAPI, model: ModelTime, texts: Texts, num_documents: int, num_requests: int
) -> dict[str, Any]:
    """Median processor milliseconds of a request, by where they went."""
    spent: list[dict[str, float]] = []
    for number in range(NUM_WARM_UP + num_requests):
        body = json.dumps(texts.request(num_documents)).encode()
        before, model_before = thread_seconds(), model.seconds
        await ask(app, body)
        after = thread_seconds()
        found = {kind: 1e3 * (after[kind] - before[kind]) for kind in after}
        found["model"] = 1e3 * (model.seconds - model_before)
        found["engine"] -= found["model"]
        if number >= NUM_WARM_UP:
            spent.append(found)
    medians = {kind: statistics.median(one[kind] for one in spent) for kind in spent[0]}
    total = sum(medians.values())
    return {
        "documents": num_documents,
        "requests": num_requests,
        "cpu_ms": {kind: round(value, 3) for kind, value in medians.items()},
        "share": {kind: round(value / total, 4) for kind, value in medians.items()},
    }


def step_forms() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Steps of one pack of ten documents: (former form, present form)."""
    ids = [tuple(range(13))] * 10
    lengths = [len(one) for one in ids]
    information, sums = np.array([[30.0, 25.0], [25.0, 30.0]]), np.array([0.3, 0.27])

    def tri_once() -> list[NDArray[np.bool_]]:
        earlier = np.tri(max(lengths), dtype=bool)
        return [earlier[:length, :length] for length in lengths]

    return {
        "ids of the row": (
            lambda: np.fromiter((token for one in ids for token in one), dtype=np.int64, count=sum(lengths)),
            lambda: np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=sum(lengths)),
        ),
        "who comes earlier": (lambda: [np.tri(length, dtype=bool) for length in lengths], tri_once),
        "cost model's fit": (
            lambda: np.linalg.solve(information, sums),
            lambda: _positive_fit((30.0, 25.0, 30.0), (0.3, 0.27)),
        ),
    }


def measure_steps(num_rounds: int = 9, num_calls: int = 500) -> dict[str, dict[str, float]]:
    """Processor microseconds of each step in both forms, best of interleaved rounds, and their ratio."""
    found = {}
    for name, forms in step_forms().items():
        best = [math.inf, math.inf]
        for _ in range(num_rounds):
            for which, form in enumerate(forms):
                began = time.thread_time()
                for _ in range(num_calls):
                    form()
                best[which] = min(best[which], (time.thread_time() - began) / num_calls)
        former, present = best
        found[name] = {
            "former_us": round(1e6 * former, 2),
            "us": round(1e6 * present, 2),
            "ratio": round(present / former, 3),
        }
    return found


async def measure_all(artifact: Path, num_requests: int) -> list[dict[str, Any]]:
    """Figures of every size."""
    model, ready = ModelTime(), asyncio.Event()
    settings = Settings(artifact=artifact, score_cache_mib=0, num_threads=1, max_documents=max(NUM_DOCUMENTS))
    app = create_app(settings, engine_factory=model.build, hooks=ProcessHooks(on_ready=ready.set))
    rows, texts = [], Texts(None)
    async with app.router.lifespan_context(app):
        await ready.wait()
        for num_documents in NUM_DOCUMENTS:
            rows.append(await measure(app, model, texts, num_documents, num_requests))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/hot_path.json"))
    args = parser.parse_args(argv)
    rows = asyncio.run(measure_all(args.artifact, args.requests))
    result = {"model": load_artifact(args.artifact).model_id, "rows": rows, "steps": measure_steps()}
    write_result(args.out, command_line("benchmarks.hot_path", sys.argv[1:] if argv is None else argv), result)
    print(json.dumps({"share": {str(row["documents"]): row["share"] for row in rows}, "steps": result["steps"]}))


if __name__ == "__main__":
    main()
