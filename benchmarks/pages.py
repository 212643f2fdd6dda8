"""The generated parts of the pages: figures from `results/`, the module table from docstrings.

    python -m benchmarks.pages            # rewrite the marked blocks
    python -m benchmarks.pages --check    # exit 1 if a block is stale

A block stands between `<!-- generated:NAME -->` and `<!-- /generated -->`; NAME is a function below. Nothing in it is
typed in by hand.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.errors import concrete_errors

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/numbers.md", "docs/architecture.md", "docs/api.md", "artifacts/default/README.md")
PACKAGES = ("relevance", "engine", "modeling", "service", "model_export", "training", "loadtest", "benchmarks")
_BLOCK = re.compile(r"(<!-- generated:(\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


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


def baselines() -> str:
    """What the default is measured against."""
    ours = read_result("evaluate_default")["figures"]
    lines = []
    for name, row in read_result("baselines")["figures"].items():
        random, cosine, found = row["random_ndcg_at_10"], row["minilm_cosine_ndcg_at_10"], ours[name]["ndcg_at_10"]
        lines.append(
            f"{name} nDCG@10 beside what needs no training of ours: random order {random:.3f}, "
            f"all-MiniLM-L6-v2's cosine {cosine:.3f}; the default's {found:.3f} is {cosine - found:.3f} short of "
            "the latter.\n"
        )
    return "".join(lines) + _source("baselines")


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


def parity() -> str:
    """What the parity gate measured of the default."""
    manifest = json.loads((ROOT / "artifacts" / "default" / "manifest.json").read_text(encoding="utf-8"))
    rows = [
        [
            one["compared"],
            str(one["num_pairs"]),
            f"{one['max_difference']:.1e}",
            f"{one['mean_difference']:.1e}",
            f"{one['grade_flips']:.3f}",
            f"{one['kendall_tau']:.4f}",
        ]
        for one in manifest["parity"]["agreements"]
    ]
    header = ["compared", "pairs", "max difference", "mean difference", "grade flips", "Kendall tau"]
    return _table(header, rows) + f"\nOn {manifest['parity']['pairs']}.\n"


def modules() -> str:
    """One line per module: the first sentence of its docstring."""
    rows = []
    for path in (p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))):
        if path.name != "__init__.py":
            paragraph = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            first = paragraph.replace("\n", " ").partition(". ")[0].rstrip(".:")
            rows.append([f"`{path.relative_to(ROOT)}`", first])
    return _table(["module", "one line"], rows)


def errors() -> str:
    """Every error a caller may meet."""
    rows = []
    for error in concrete_errors():
        wait = "after `Retry-After`" if error.retry_after_s is not None else "yes"
        meaning = " ".join((error.__doc__ or "").split())
        rows.append([f"`{error.code}`", str(error.status), wait if error.is_retryable else "no", meaning])
    return _table(["code", "status", "try again", "what happened"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "quality": quality,
    "everyday": everyday,
    "baselines": baselines,
    "engine": engine,
    "parity": parity,
    "modules": modules,
    "errors": errors,
}


def render(text: str) -> str:
    """`text` with every block made anew."""
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
