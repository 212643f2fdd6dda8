"""What HTTP and Python cost beside the model: one request at a time, as the service and as its client see it.

    python -m benchmarks.overhead [--requests 200] [--out results/overhead.json]

overhead = time of a request - tokenise - infer, in milliseconds and as a share of tokenise + infer:

    service  from `Server-Timing`: `total`, from the request's headers to the encoded answer, without those two
    client   from the first byte sent to the last byte received, without those two

The service runs in a process of its own, with no score cache, and no request is like another.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.served import serving
from benchmarks.texts import Texts
from loadtest.sender import Answer, Sender
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result

NUM_DOCUMENTS = (1, 100)
NUM_WARM_UP = 20


def stages_ms(answer: Answer) -> dict[str, float]:
    """Times of `Server-Timing`, in milliseconds."""
    return {name: float(took) for name, took in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])}


async def measure(sender: Sender, texts: Texts, num_documents: int, num_requests: int) -> dict[str, Any]:
    """Figures of requests of one size, one after the other."""
    stages: list[dict[str, float]] = []
    client_ms: list[float] = []
    for number in range(NUM_WARM_UP + num_requests):
        answer = await sender.post("/score", json.dumps(texts.request(num_documents)).encode())
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
        if number >= NUM_WARM_UP:
            stages.append(stages_ms(answer))
            client_ms.append(1000 * answer.seconds)
    work = np.array([one["tokenise"] + one["infer"] for one in stages])
    service = np.array([one["total"] for one in stages]) - work
    client = np.array(client_ms) - work
    return {
        "documents": num_documents,
        "requests": num_requests,
        "stages_ms_p50": {name: round(float(np.median([one[name] for one in stages])), 3) for name in stages[0]},
        "client_ms_p50": round(float(np.median(client_ms)), 3),
        "overhead_ms": {who: _percentiles(values) for who, values in (("service", service), ("client", client))},
        "overhead_share_p50": {
            who: round(float(np.median(values / work)), 4) for who, values in (("service", service), ("client", client))
        },
    }


def _percentiles(values: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95)}


async def measure_all(url: str, num_requests: int) -> list[dict[str, Any]]:
    """Figures of every size; the large ones are fewer."""
    texts, rows = Texts(None), []
    async with Sender(url) as sender:
        for num_documents in NUM_DOCUMENTS:
            rows.append(await measure(sender, texts, num_documents, max(20, num_requests // num_documents)))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("results/overhead.json"))
    args = parser.parse_args(argv)
    with serving(args.artifact, "--score-cache-mib", "0") as served:
        rows = asyncio.run(measure_all(served.url, args.requests))
    result = {"model": load_artifact(args.artifact).model_id, "rows": rows}
    write_result(args.out, command_line("benchmarks.overhead", sys.argv[1:] if argv is None else argv), result)
    print(json.dumps({str(row["documents"]): row["overhead_ms"] for row in rows}))


if __name__ == "__main__":
    main()
