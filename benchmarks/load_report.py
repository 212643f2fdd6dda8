"""A load test of an artifact on this machine: a service of its own, a plan of `loadtest/plans/`, a result and a page.

    python -m benchmarks.load_report [--plan loadtest/plans/knee.toml] [--out results/loadtest.json]

The service runs with its default settings (a worker for each core) on the cores that the senders share with it, as
nothing but the load test runs here. The page lies beside the docs; figures of docs/loadtest.md come from the result.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.served import ROOT, serving
from loadtest.plan import load_plan
from loadtest.progress import TerminalProgress
from loadtest.report import write_report
from loadtest.run import Run
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result
from service.assembly import num_workers_for


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--plan", type=Path, default=ROOT / "loadtest" / "plans" / "knee.toml")
    parser.add_argument("--workers", type=int, help="unset: what the service takes unasked")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "loadtest.json")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "reports" / "loadtest.html")
    args = parser.parse_args(argv)
    plan, artifact = load_plan(args.plan), load_artifact(args.artifact)
    num_workers = args.workers or num_workers_for(artifact.manifest.graph.hidden_size, len(os.sched_getaffinity(0)))
    with serving(args.artifact, num_workers=num_workers) as served, TerminalProgress() as progress:
        result = Run(plan, served.url, {}, progress).measure()
        progress.table(result)
    write_report(args.report, result)
    for level in result["levels"]:
        del level["cdf"]  # drawn in the page
    figures = {"model": artifact.model_id, "workers": num_workers, **result}
    write_result(args.out, command_line("benchmarks.load_report", sys.argv[1:] if argv is None else argv), figures)
    print(json.dumps({"knee": result["knee"], "closed_rps": result["closed_rps"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
