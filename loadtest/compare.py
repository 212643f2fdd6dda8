"""Two runs of a plan beside each other: load by load, and the knee.

    python -m loadtest.compare EARLIER.json LATER.json [--report FILE.html]

Loads are matched by name. A difference is only worth reading where both runs offered about the same and saw the same
machine; single runs on a shared machine differ by 5 to 10 % for no cause.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.report import write_report

FIGURES = ("offered_rps", "goodput_rps", "good_share", "documents_per_s", "p50_ms", "p99_ms")


def flat(level: Mapping[str, Any]) -> dict[str, float | None]:
    """A load's figures by name."""
    answer = level["answer_ms"]
    return {name: level.get(name) for name in FIGURES[:4]} | {f"{q}_ms": answer[q] for q in ("p50", "p99")}


def change(earlier: float | None, later: float | None) -> float | None:
    """Relative change; None where there is none to tell."""
    return None if not earlier or later is None else round(later / earlier - 1.0, 4)


def compare(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Earlier, later and change of each figure of each load that both have, and of the knee."""
    before = {level["name"]: flat(level) for level in earlier["levels"]}
    rows: dict[str, dict[str, Any]] = {}
    for level in later["levels"]:
        if level["name"] in before:
            old, new = before[level["name"]], flat(level)
            rows[level["name"]] = {
                name: {"earlier": old[name], "later": new[name], "change": change(old[name], new[name])}
                for name in FIGURES
            }
    knees = [None if run["knee"] is None else run["knee"]["offered_rps"] for run in (earlier, later)]
    return {
        "knee_rps": {"earlier": knees[0], "later": knees[1], "change": change(*knees)},
        "levels": rows,
        "same_plan": earlier["plan"] == later["plan"],
    }


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["| load | figure | earlier | later | change |", "|---|---|---|---|---|"]
    rows = [("knee", "offered_rps", comparison["knee_rps"])]
    rows += [(name, figure, cell) for name, row in comparison["levels"].items() for figure, cell in row.items()]
    for name, figure, cell in rows:
        shown = [_shown(cell["earlier"]), _shown(cell["later"])]
        shown.append("-" if cell["change"] is None else f"{cell['change']:+.1%}")
        lines.append(f"| {name} | {figure} | " + " | ".join(shown) + " |")
    if not comparison["same_plan"]:
        lines.append("\nThe plans differ.")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two files; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("later", type=Path)
    parser.add_argument("--report", type=Path, help="write a page of the later run, with the earlier beside it")
    args = parser.parse_args(argv)
    try:
        earlier, later = (json.loads(path.read_text(encoding="utf-8")) for path in (args.earlier, args.later))
    except (OSError, ValueError) as error:
        print(f"cannot compare: {error}", file=sys.stderr)
        return 2
    comparison = compare(earlier, later)
    if args.report is not None:
        write_report(args.report, later, earlier)
    print(comparison_table(comparison))
    print(json.dumps(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
