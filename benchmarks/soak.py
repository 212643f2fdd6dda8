"""A long steady load, and whether anything grows: memory, open files, tasks, threads.

    python -m benchmarks.soak                     writes results/soak.json
    python -m benchmarks.soak --minutes 0.5       a try

First the rate at which eight clients saturate the service, then `share` of it in an open loop of requests of 1, 10
and 50 documents, all different, so that the caches turn over all the time (they are set small, to be full when the
warm-up ends). Every ten seconds the process is looked at from outside. The slope is that of a straight line through
resident memory after the warm-up, with its standard error: growth is what is larger than the error.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.http_load import closed_loop, open_loop, percentile_ms
from benchmarks.served import ROOT, Served, serving
from loadtest.sender import Answer
from relevance.provenance import command_line, write_result

SIZES = (1, 1, 10, 10, 50)
NUM_CLIENTS = 8
SATURATING_S = 20.0
LOOK_EVERY_S = 10.0
CACHES = ("--prefix-cache-mib", "8", "--score-cache-mib", "2")
GAUGES = ("tasks", "threads", "prefix_cache_bytes", "score_cache_bytes", "lost_log_lines")


def look(service: Served, began: float) -> dict[str, float]:
    """What the process holds now."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    metrics = service.metrics()
    return {
        "at_s": round(time.monotonic() - began, 1),
        "resident_mib": int(resident[1]) / 1024 if resident else 0.0,
        "open_files": float(len(list(Path(f"/proc/{service.pid}/fd").iterdir()))),
        **{name: metrics[f"relevance_{name}"] for name in GAUGES},
    }


async def load_and_look(service: Served, rate: float, seconds: float) -> tuple[list[Answer], list[dict[str, float]]]:
    """The answers of the load, and what was seen meanwhile."""
    loading = asyncio.create_task(open_loop(service, SIZES, rate, seconds))
    began = time.monotonic()
    seen: list[dict[str, float]] = []
    while not loading.done():
        seen.append(await asyncio.to_thread(look, service, began))
        await asyncio.wait([loading], timeout=LOOK_EVERY_S)
    return await loading, seen


def slope_per_minute(at_s: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope of the straight line through the points, per minute, and its standard error."""
    x, y = np.array(at_s) / 60, np.array(values)
    x = x - x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    error = float(np.sqrt((rest**2).sum() / max(1, len(x) - 2) / (x * x).sum()))
    return slope, error


def summarise(seen: Sequence[dict[str, float]], warm_up_s: float) -> dict[str, Any]:
    """Figures of what was seen after the warm-up; medians of its first and its last third."""
    after = [one for one in seen if one["at_s"] >= warm_up_s]
    third = max(1, len(after) // 3)
    slope, error = slope_per_minute([one["at_s"] for one in after], [one["resident_mib"] for one in after])
    return {
        "memory_slope_mib_per_minute": round(slope, 4),
        "memory_slope_error": round(error, 4),
        "growth": {
            name: [statistics.median(one[name] for one in part) for part in (after[:third], after[-third:])]
            for name in after[0]
            if name != "at_s"
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=0.2, help="share of the time before anything is judged")
    parser.add_argument("--share", type=float, default=0.7, help="of the rate that saturates it")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "soak.json")
    args = parser.parse_args(argv)
    seconds = 60 * args.minutes
    with serving(args.artifact, *CACHES) as service:
        saturating_s = min(SATURATING_S, seconds / 4)
        saturated, elapsed_s = asyncio.run(closed_loop(service, SIZES, NUM_CLIENTS, saturating_s))
        rate = args.share * len(saturated) / elapsed_s
        answers, seen = asyncio.run(load_and_look(service, rate, seconds))
    statuses = sorted({answer.status for answer in answers})
    figures = {
        "minutes": args.minutes,
        "warm_up_minutes": round(args.minutes * args.warm_up, 2),
        "saturation_requests_per_s": round(len(saturated) / elapsed_s, 2),
        "load_requests_per_s": round(rate, 2),
        "num_requests": len(answers),
        "statuses": {str(status): sum(answer.status == status for answer in answers) for status in statuses},
        "p50_ms": round(percentile_ms(answers, 0.5), 1),
        "p99_ms": round(percentile_ms(answers, 0.99), 1),
        **summarise(seen, args.warm_up * seconds),
        "seen": seen,
    }
    write_result(args.out, command_line("benchmarks.soak", argv or sys.argv[1:]), figures)
    print(json.dumps({name: value for name, value in figures.items() if name != "seen"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
