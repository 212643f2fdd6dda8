"""How many processes and threads serve best on this machine: every split of the cores, one document and a hundred.

    python -m benchmarks.workers        writes results/workers.json

For each split and size of request: what eight clients get together (closed loop), and what one gets alone. The
default artifact, no score cache, queries and documents that are all different. The clients run on the same cores,
as a neighbour would.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.http_load import ROOT, Service, closed_loop, memory_mib, percentile_ms, processes_of, running
from relevance.provenance import command_line, write_result

NUM_CLIENTS = 8
SIZES = (1, 100)


def splits(num_cores: int) -> list[tuple[int, int]]:
    """Workers and threads: one process with every number of threads, and processes that share the cores evenly."""
    powers = [2**power for power in range(num_cores.bit_length()) if 2**power <= num_cores]
    one_process = [(1, threads) for threads in powers]
    shared = [(workers, num_cores // workers) for workers in powers[1:]]
    return [*one_process, *shared, (num_cores, num_cores)] if num_cores > 1 else one_process


def measure(service: Service, num_documents: int, seconds: float) -> dict[str, Any]:
    """Figures of one size of request."""
    together, elapsed_s = asyncio.run(closed_loop(service, num_documents, NUM_CLIENTS, seconds))
    alone, _ = asyncio.run(closed_loop(service, num_documents, 1, seconds / 2))
    if any(sample.status != 200 for sample in (*together, *alone)):
        raise RuntimeError(f"not everything was answered: {sorted({sample.status for sample in together})}")
    return {
        "num_documents": num_documents,
        "num_requests": len(together),
        "requests_per_s": round(len(together) / elapsed_s, 2),
        "documents_per_s": round(len(together) * num_documents / elapsed_s, 1),
        "p50_ms": round(percentile_ms(together, 0.5), 2),
        "p99_ms": round(percentile_ms(together, 0.99), 2),
        "alone_p50_ms": round(percentile_ms(alone, 0.5), 2),
    }


def run(artifact: Path, seconds: float) -> list[dict[str, Any]]:
    """One row per split and size."""
    rows = []
    for workers, threads in splits(len(os.sched_getaffinity(0))):
        arguments = ("--artifact", str(artifact), "--workers", str(workers), "--num-threads", str(threads))
        with running(*arguments) as service:
            asyncio.run(
                closed_loop(service, 10, NUM_CLIENTS, 1.0)
            )  # connections, first requests, caches of the processor
            for num_documents in SIZES:
                row = {"workers": workers, "threads": threads, **measure(service, num_documents, seconds)}
                print(json.dumps(row), file=sys.stderr, flush=True)
                rows.append(row)
            memory = memory_mib(processes_of(service.pid))
            for row in rows[-len(SIZES) :]:
                row["memory_mib"] = {name: round(mib, 1) for name, mib in memory.items()}
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each closed loop")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "workers.json")
    args = parser.parse_args(argv)
    rows = run(args.artifact, args.seconds)
    write_result(
        args.out, command_line("benchmarks.workers", argv or sys.argv[1:]), {"clients": NUM_CLIENTS, "rows": rows}
    )
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
