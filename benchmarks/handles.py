"""What handles cost a score: the same requests without and with `explain`, in blocks by turns, one at a time.

    python -m benchmarks.handles [--requests 400] [--out results/handles.json]

Compared is the processor time of the service, `process_cpu_seconds_total` around each block, so that what else the
machine does weighs little; medians of the whole time in the service (`Server-Timing`) stand beside it. Twice: with KV
kept for explanations, as is the default, and without (`--explain-kv-mib 0`), where the handles alone are left.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overhead import NUM_DOCUMENTS, NUM_WARM_UP, stages_ms
from benchmarks.served import Served, serving
from benchmarks.texts import Texts
from loadtest.sender import Sender
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result

FORMS = ("without", "with")
KEPT = {"kept": (), "not kept": ("--explain-kv-mib", "0")}
NUM_BLOCKS = 10
CPU = "process_cpu_seconds_total"


class Forms:
    """Sends requests of one size in both forms."""

    def __init__(self, served: Served, sender: Sender, num_documents: int) -> None:
        self._served = served
        self._sender = sender
        self._texts = Texts(None)
        self._num_documents = num_documents

    async def send(self, form: str, number: int) -> list[float]:
        """The whole time of each of `number` requests, in milliseconds."""
        totals: list[float] = []
        for _ in range(number):
            body = {**self._texts.request(self._num_documents), "explain": form == "with"}
            answer = await self._sender.post("/score", json.dumps(body).encode())
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
            totals.append(stages_ms(answer)["total"])
        return totals

    async def compare(self, num_requests: int) -> dict[str, Any]:
        """Processor time and median time of a request in each form."""
        await self.send("with", NUM_WARM_UP)
        spent, totals = dict.fromkeys(FORMS, 0.0), {form: list[float]() for form in FORMS}
        block = max(1, num_requests // NUM_BLOCKS)
        for number in range(2 * NUM_BLOCKS):
            form = FORMS[(number + number // 2) % 2]  # without, with, with, without: neither is always the second
            before = self._served.metrics()[CPU]
            totals[form] += await self.send(form, block)
            spent[form] += self._served.metrics()[CPU] - before
        cpu_ms = {form: round(1000 * seconds / (block * NUM_BLOCKS), 3) for form, seconds in spent.items()}
        return {
            "documents": self._num_documents,
            "requests": block * NUM_BLOCKS,
            "cpu_ms": cpu_ms,
            "cpu_ratio": round(cpu_ms["with"] / cpu_ms["without"], 4),
            "total_ms_p50": {form: round(float(np.median(values)), 3) for form, values in totals.items()},
        }


async def measure(served: Served, num_requests: int) -> list[dict[str, Any]]:
    """Both sizes; requests of the large one are fewer."""
    rows = []
    async with Sender(served.url) as sender:
        for number in NUM_DOCUMENTS:
            forms = Forms(served, sender, number)
            rows.append(await forms.compare(max(20, num_requests // number)))
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("results/handles.json"))
    args = parser.parse_args(argv)
    rows = []
    for kv, flags in KEPT.items():
        with serving(args.artifact, "--score-cache-mib", "0", *flags) as served:
            rows += [{"kv": kv, **row} for row in asyncio.run(measure(served, args.requests))]
        print(json.dumps(rows[-2:]), flush=True)
    result = {"model": load_artifact(args.artifact).model_id, "rows": rows}
    write_result(args.out, command_line("benchmarks.handles", sys.argv[1:] if argv is None else argv), result)
    print(json.dumps({f"{row['kv']}, {row['documents']}": row["cpu_ratio"] for row in rows}))


if __name__ == "__main__":
    main()
