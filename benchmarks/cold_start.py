"""From the start of a process to its first score, and the memory that takes; in process, without HTTP.

    python -m benchmarks.cold_start ARTIFACT

Each run is a process of its own: Python, imports, verification of the artifact's hashes, loading, one pair. What is on
disk is in the page cache after the first, which does not count. Memory is what is resident at the end: what the
process allocated, and the part of mapped files (weights, libraries) that it has touched, which other processes share.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from engine.local import LocalScorer
from relevance.pair import Pair

ROOT = Path(__file__).parents[1]
NUM_RUNS = 3


def resident_mib() -> dict[str, float]:
    """This process's resident memory: all, its own, and mapped files'."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    names = {"resident_mib": "VmRSS", "own_mib": "RssAnon", "mapped_mib": "RssFile", "peak_mib": "VmHWM"}
    return {name: round(int(lines[key].split()[0]) / 1024, 1) for name, key in names.items()}


def score_once(artifact: Path) -> dict[str, float]:
    """Load and score one pair here; seconds of both, and memory."""
    started = time.perf_counter()
    scorer = LocalScorer.open(artifact)
    loaded = time.perf_counter()
    scorer.distributions([Pair("usb c cable", "USB-C to USB-C cable, 1 m")])
    return {"load_s": loaded - started, "first_score_s": time.perf_counter() - loaded, **resident_mib()}


def cold_start(artifact: Path, num_runs: int = NUM_RUNS) -> dict[str, float]:
    """Medians over processes: `start_s` is from the start of the process until it has said its first score."""
    runs = []
    for _ in range(num_runs + 1):
        started = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.cold_start", "--here", str(artifact.absolute())]
        said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
        runs.append({"start_s": time.perf_counter() - started, **json.loads(said)})
    return {name: round(statistics.median(run[name] for run in runs[1:]), 3) for name in runs[0]}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", metavar="ARTIFACT", type=Path)
    parser.add_argument("--here", action="store_true", help="one run, in this process")
    args = parser.parse_args(argv)
    print(json.dumps(score_once(args.artifact) if args.here else cold_start(args.artifact)))


if __name__ == "__main__":
    main()
