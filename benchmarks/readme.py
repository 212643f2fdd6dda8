"""The figures of README and model card, rendered from `results/`; nothing is typed in by hand.

    python -m benchmarks.readme            # rewrite the marked blocks
    python -m benchmarks.readme --check    # exit 1 if a block is not what results/ say

A block stands between `<!-- figures:NAME -->` and `<!-- /figures -->`; NAME is a function below.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/numbers.md", "artifacts/default/README.md")
_BLOCK = re.compile(r"(<!-- figures:(\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)


def read_result(name: str) -> dict[str, Any]:
    """A file of `results/`."""
    content: dict[str, Any] = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _source(name: str) -> str:
    result = read_result(name)
    machine = result["machine"]
    return (
        f"\n`results/{name}.json`: {result['date'][:10]}, commit {result['commit']}, {machine['processor']}, "
        f"{machine['cores']} cores, `{result['command']}`.\n"
    )


def quality() -> str:
    """Test figures of the default."""
    figures = read_result("evaluate_default")["figures"]
    columns = {
        "nDCG@10": "ndcg_at_10",
        "accuracy": "accuracy",
        "majority": "majority_accuracy",
        "macro-F1": "macro_f1",
        "kappa": "qwk",
        "Spearman": "spearman",
        "ECE": "ece",
    }
    rows = [
        [name, str(row["num_pairs"]), str(row["num_queries"]), *(f"{row[key]:.3f}" for key in columns.values())]
        for name, row in figures.items()
    ]
    return _table(["file", "pairs", "queries", *columns], rows) + _source("evaluate_default")


def everyday() -> str:
    """The sixty everyday queries."""
    figures = read_result("everyday_default")["figures"]
    share, count = figures["relevant_first"], figures["num_queries"]
    means = figures["mean_score"]
    return (
        f"The relevant text comes first for {round(share * count)} of {count} everyday queries (mean score "
        f"{means['relevant']:.2f}, against {means['shares_words']:.2f} for a text that shares words and "
        f"{means['off_topic']:.2f} off topic).\n" + _source("everyday_default")
    )


def engine() -> str:
    """Packed against the other ways, the default on a CPU."""
    result = read_result("bench_engine")
    rows = []
    for row in result["rows"]:
        ratio, median = row["ratio_to_packed"], row["median_ms"]
        rows.append(
            [
                row["workload"],
                str(row["num_tokens"]),
                f"{median['packed']:.1f} ms",
                f"{ratio['packed_warm']:.2f}",
                f"{ratio['one_by_one']:.2f}",
                f"{ratio['padded']:.2f}",
            ]
        )
    header = ["documents", "tokens", "packed", "prefix held", "one by one", "padded batches"]
    return _table(header, rows) + _source("bench_engine")


BLOCKS: dict[str, Callable[[], str]] = {"quality": quality, "everyday": everyday, "engine": engine}


def render(text: str) -> str:
    """`text` with every block filled from `results/`."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}{match[3]}", text)


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite or check the pages; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args(argv)
    stale = []
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        fresh = render(text)
        if fresh != text:
            stale.append(page)
            if not args.check:
                path.write_text(fresh, encoding="utf-8")
    print(("stale: " if args.check else "rewritten: ") + (", ".join(stale) or "none"))
    return 1 if stale and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
