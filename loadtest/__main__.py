"""Run a plan against a service: `python -m loadtest PLAN.toml --url http://localhost:8080`.

    --json FILE       keep the result          --report FILE    a page with charts, in one file
    --against FILE    an earlier result to compare with         --header 'Authorization: Bearer …'

Progress and tables go to stderr; the last line of stdout is the result in short, as JSON. Exit status 0; 1 if the run
failed; 2 if the plan cannot be used; 3 if the senders were too slow, so that the client was measured.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.compare import compare, comparison_table
from loadtest.plan import InvalidPlanError, load_plan
from loadtest.progress import TerminalProgress
from loadtest.report import write_report
from loadtest.run import Run

EXIT_FAILED, EXIT_PLAN, EXIT_CLIENT = 1, 2, 3
_IN_SHORT = ("name", "offered_rps", "goodput_rps", "good_share", "client_kept_up")


def in_short(result: dict[str, Any]) -> dict[str, Any]:
    """The result on one line."""
    levels = [
        {name: level[name] for name in _IN_SHORT} | {f"{name}_ms": level["answer_ms"][name] for name in ("p50", "p99")}
        for level in result["levels"]
    ]
    return {
        "plan": result["plan"]["name"],
        "knee": result["knee"],
        "closed_rps": result["closed_rps"],
        "levels": levels,
    }


def parse_headers(headers: Sequence[str]) -> dict[str, str]:
    """`Name: value` as a header.

    Raises:
        ValueError: there is no colon.
    """
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise ValueError(f"{header!r} is no header; write 'Name: value'")
        parsed[name.strip()] = value.strip()
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path, metavar="PLAN.toml")
    parser.add_argument("--url", required=True, help="of the service, as http://localhost:8080")
    parser.add_argument("--header", action="append", default=[], help="sent with each request; may be repeated")
    parser.add_argument("--json", type=Path, help="write the whole result here")
    parser.add_argument("--report", type=Path, help="write a page with charts here")
    parser.add_argument("--against", type=Path, help="result of an earlier run to compare with")
    args = parser.parse_args(argv)
    try:
        plan, headers = load_plan(args.plan), parse_headers(args.header)
        earlier = None if args.against is None else json.loads(args.against.read_text(encoding="utf-8"))
    except (InvalidPlanError, ValueError, OSError) as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return EXIT_PLAN
    with TerminalProgress() as progress:
        try:
            result = Run(plan, args.url, headers, progress).measure()
        except RuntimeError as error:
            print(f"failed: {error}", file=sys.stderr)
            return EXIT_FAILED
        progress.table(result)
    comparison = None if earlier is None else compare(earlier, result)
    if comparison is not None:
        print(comparison_table(comparison), file=sys.stderr)
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.report is not None:
        write_report(args.report, result, earlier)
    print(json.dumps(in_short(result)))
    return 0 if all(level["client_kept_up"] for level in result["levels"]) else EXIT_CLIENT


if __name__ == "__main__":
    sys.exit(main())
