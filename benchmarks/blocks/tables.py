"""Results and tables that blocks share."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def read_result(name: str) -> dict[str, Any]:
    """A file of `results/`."""
    content: dict[str, Any] = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def source(name: str) -> str:
    """The line that says where a result came from."""
    result = read_result(name)
    machine = result["machine"]
    return (
        f"\n`results/{name}.json`: {result['date'][:10]}, commit {result['commit']}, {machine['processor']}, "
        f"{machine['cores']} cores, `{result['command']}`.\n"
    )
