"""What handles cost a score: the same requests without and with `explain`, by turns, one at a time.

    python -m benchmarks.handles [--requests 400] [--out results/handles.json]

Each request of new documents is sent in one of two forms, and the next one in the other, so that both see the machine
alike. `Server-Timing` tells the whole time in the service and that of its last stage, `post`, in which handles are
signed. Twice: with KV kept for explanations, as is the default, and without (`--explain-kv-mib 0`), where the handles
alone are left.
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
from benchmarks.served import serving
from benchmarks.texts import Texts
from loadtest.sender import Sender
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result

FORMS = ("without", "with")
KEPT = {"kept": (), "not kept": ("--explain-kv-mib", "0")}


async def measure(sender: Sender, texts: Texts, num_documents: int, num_requests: int) -> dict[str, Any]:
    """Medians of both forms at one size."""
    totals: dict[str, list[float]] = {form: [] for form in FORMS}
    posts: dict[str, list[float]] = {form: [] for form in FORMS}
    for number in range(NUM_WARM_UP + num_requests):
        form = FORMS[number % 2]
        body = {**texts.request(num_documents), "explain": form == "with"}
        answer = await sender.post("/score", json.dumps(body).encode())
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
        if number >= NUM_WARM_UP:
            stages = stages_ms(answer)
            totals[form].append(stages["total"])
            posts[form].append(stages["post"])
    total = {form: round(float(np.median(values)), 3) for form, values in totals.items()}
    return {
        "documents": num_documents,
        "requests": num_requests,
        "total_ms_p50": total,
        "ratio": round(total["with"] / total["without"], 4),
        "post_ms_p50": {form: round(float(np.median(values)), 3) for form, values in posts.items()},
    }


async def measure_all(url: str, num_requests: int) -> list[dict[str, Any]]:
    """Figures of every size; the large ones are fewer."""
    texts = Texts(None)
    async with Sender(url) as sender:
        return [
            await measure(sender, texts, number, max(40, num_requests * 10 // (10 + number)))
            for number in NUM_DOCUMENTS
        ]


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
            rows += [{"kv": kv, **row} for row in asyncio.run(measure_all(served.url, args.requests))]
        print(json.dumps(rows[-2:]), flush=True)
    result = {"model": load_artifact(args.artifact).model_id, "rows": rows}
    write_result(args.out, command_line("benchmarks.handles", sys.argv[1:] if argv is None else argv), result)
    print(json.dumps({f"{row['kv']}, {row['documents']}": row["ratio"] for row in rows}))


if __name__ == "__main__":
    main()
