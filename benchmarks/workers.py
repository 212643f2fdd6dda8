"""How many processes and threads serve best on this machine: every split of the cores, one document and a hundred.

    python -m benchmarks.workers        writes results/workers.json

For each split and size of request: what eight clients get together (closed loop), and what one gets alone. The
default artifact, no score cache, queries and documents that are all different. The clients run on the same cores,
as a neighbour would. All services are up at once and are asked in turn, round after round, so that whatever else the
machine does meets all of them; the best round of each is its figure, since a disturbance only ever takes away.
`elsewhere` is the share of the machine's busy time in that round that went to other programs.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.http_load import closed_loop, memory_mib, percentile_ms, processes_of
from benchmarks.served import ROOT, Served, serving
from relevance.provenance import command_line, write_result

NUM_CLIENTS = 8
SIZES = (1, 100)
CACHES = ("--prefix-cache-mib", "16", "--score-cache-mib", "0")
Split = tuple[int, int]


def splits(num_cores: int) -> list[Split]:
    """Workers and threads: one process with every number of threads, and processes that share the cores evenly."""
    powers = [2**power for power in range(num_cores.bit_length()) if 2**power <= num_cores]
    one_process = [(1, threads) for threads in powers]
    shared = [(workers, num_cores // workers) for workers in powers[1:]]
    return [*one_process, *shared, (num_cores, num_cores)] if num_cores > 1 else one_process


def busy_seconds(pids: Sequence[int]) -> tuple[float, float]:
    """Processor time since the start of the machine, and of these processes."""
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    own = 0
    for pid in pids:
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        own += int(times[11]) + int(times[12])
    return (sum(fields[:8]) - idle) / ticks, own / ticks


def measure(service: Served, num_documents: int, seconds: float, seed: int) -> dict[str, float]:
    """Figures of one size of request in one round."""
    pids = [*processes_of(service.pid), os.getpid()]
    before = busy_seconds(pids)
    together, elapsed_s = asyncio.run(closed_loop(service, [num_documents], NUM_CLIENTS, seconds, seed))
    alone, _ = asyncio.run(closed_loop(service, [num_documents], 1, seconds / 2, 10 * seed + 1))
    busy, own = (after - first for after, first in zip(busy_seconds(pids), before, strict=True))
    if any(sample.status != 200 for sample in (*together, *alone)):
        raise RuntimeError(f"not everything was answered: {sorted({sample.status for sample in together})}")
    return {
        "documents_per_s": round(len(together) * num_documents / elapsed_s, 1),
        "p50_ms": round(percentile_ms(together, 0.5), 2),
        "p99_ms": round(percentile_ms(together, 0.99), 2),
        "alone_p50_ms": round(percentile_ms(alone, 0.5), 2),
        "elsewhere": round(max(0.0, 1 - own / busy), 3),
    }


def best(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The round with the most documents, what one client got at best, and the spread."""
    chosen: dict[str, Any] = dict(max(rounds, key=lambda row: row["documents_per_s"]))
    chosen["alone_p50_ms"] = min(row["alone_p50_ms"] for row in rounds)
    chosen["documents_per_s_of_rounds"] = [row["documents_per_s"] for row in rounds]
    return chosen


def run(artifact: Path, seconds: float, num_rounds: int) -> list[dict[str, Any]]:
    """One row per split and size."""
    found: dict[tuple[Split, int], list[dict[str, float]]] = {}
    memory: dict[Split, dict[str, float]] = {}
    with contextlib.ExitStack() as stack:
        services: dict[Split, Served] = {}
        for split in splits(len(os.sched_getaffinity(0))):
            threads = ("--num-threads", str(split[1]))
            services[split] = stack.enter_context(serving(artifact, *threads, *CACHES, num_workers=split[0]))
            # The first requests of a process are slower than all that follow.
            asyncio.run(closed_loop(services[split], [10], NUM_CLIENTS, 0.5))
        for number in range(1, num_rounds + 1):
            for num_documents in SIZES:
                for split, service in services.items():
                    row = measure(service, num_documents, seconds, number)
                    found.setdefault((split, num_documents), []).append(row)
                    print(json.dumps({"split": split, "num_documents": num_documents, **row}), file=sys.stderr)
        for split, service in services.items():
            memory[split] = {name: round(mib, 1) for name, mib in memory_mib(processes_of(service.pid)).items()}
    return [
        {"workers": split[0], "threads": split[1], "num_documents": size, **best(rounds), "memory_mib": memory[split]}
        for (split, size), rounds in found.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each closed loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "workers.json")
    args = parser.parse_args(argv)
    rows = run(args.artifact, args.seconds, args.rounds)
    command = command_line("benchmarks.workers", argv or sys.argv[1:])
    write_result(args.out, command, {"clients": NUM_CLIENTS, "rounds": args.rounds, "rows": rows})
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
