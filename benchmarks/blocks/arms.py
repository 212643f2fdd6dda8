"""The arms: figures with spread over seeds, explanations and cost, recall per rule."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from benchmarks.blocks.tables import read_result, source, table


def _cell(arm: dict[str, Any], figure: str, digits: int = 3) -> str:
    found = arm["figures"].get(figure)
    return "" if found is None else f"{found['mean']:.{digits}f} ± {found['std']:.{digits}f}"


def arms() -> str:
    """What the grades are worth."""
    columns = {
        "accuracy": "accuracy",
        "macro-F1": "macro_f1",
        "kappa": "qwk",
        "nDCG@10": "ndcg_at_10",
        "ECE": "ece_before",
        "ECE, calibrated": "ece",
        "entropy": "grade_entropy",
        "recall, common rules": "common_recall",
        "recall, rare rules": "rare_recall",
    }
    result = read_result("arms")
    rows = [
        [f"`{name}`", arm["says"], *(_cell(arm, figure) for figure in columns.values())]
        for name, arm in result["arms"].items()
    ]
    seeds = {len(arm["seeds"]) for arm in result["arms"].values()}
    shown = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    note = f"\nMean ± standard deviation over {shown} seeds; entropy in nats, ln 4 = 1.386 is undecided.\n"
    return table(["arm", "what", *columns], rows) + note + source("arms")


def _changes(before: str, after: Sequence[str]) -> str:
    """Differences of arms to `before`, paired by seed."""
    columns = {
        "macro-F1": ("figures", "macro_f1"),
        "entropy": ("figures", "grade_entropy"),
        "ECE": ("figures", "ece_before"),
        "recall, common rules": ("figures", "common_recall"),
        "recall, rare rules": ("figures", "rare_recall"),
        "of unit_converted": ("rules", "unit_converted"),
    }
    found, rows = read_result("arms")["arms"], []
    for name in after:
        cells = []
        for kind, figure in columns.values():
            first = dict(zip(found[before]["seeds"], found[before][kind][figure]["values"], strict=True))
            last = dict(zip(found[name]["seeds"], found[name][kind][figure]["values"], strict=True))
            changes = [last[seed] - first[seed] for seed in last if seed in first]
            cells.append(f"{fmean(changes):+.3f} ± {stdev(changes) if len(changes) > 1 else 0.0:.3f}")
        rows.append([f"`{name}`", *cells])
    return table([f"against `{before}`", *columns], rows)


def arms_change() -> str:
    """What the stage after answer-first SFT changed."""
    result = read_result("arms")
    later = [a["name"] for a in result["config"]["arms"] if a["start"] == "answer_first"]
    return _changes("answer_first", [name for name in later if name in result["arms"]])


def arms_anchor() -> str:
    """What an anchor beside Stepwise-GRPO changed."""
    return _changes("stepwise", [name for name in read_result("arms")["arms"] if name.startswith("stepwise_sft")])


def arms_grades() -> str:
    """F1 per grade."""
    result = read_result("arms")
    grades = [key for key in next(iter(result["arms"].values()))["figures"] if key.startswith("f1_grade_")]
    rows = [[f"`{name}`", *(_cell(arm, grade) for grade in grades)] for name, arm in result["arms"].items()]
    return table(["arm", *(f"F1 of grade {grade.removeprefix('f1_grade_')}" for grade in grades)], rows)


def arms_rules() -> str:
    """Recall per rule."""
    result = read_result("arms")
    rules = sorted(result["rules"], key=lambda rule: -result["rules"][rule]["share"])
    header = [f"{rule} ({100 * result['rules'][rule]['share']:.3g} %)" for rule in rules]
    rows = []
    for name, arm in result["arms"].items():
        cells = (arm["rules"][rule] for rule in rules)
        rows.append([f"`{name}`", *(f"{cell['mean']:.2f} ± {cell['std']:.2f}" for cell in cells)])
    return table(["arm", *header], rows)


def arms_answers() -> str:
    """What the explanations are worth, and what they cost."""
    columns = {
        "readable": "readable",
        "verdict is the grade": "consistent",
        "quotes found": "grounded",
        "missing is missing": "truly_missing",
        "tokens": "answer_tokens",
    }
    rows = []
    for name, arm in read_result("arms")["arms"].items():
        if "readable" in arm["figures"]:
            cost = (arm["figures"][key]["mean"] for key in ("answer_ms_per_pair", "grade_ms_per_pair"))
            whole, grade = cost
            cells = (_cell(arm, figure, 1 if figure == "answer_tokens" else 3) for figure in columns.values())
            rows.append([f"`{name}`", *cells, f"{whole / grade:.1f}"])
    return table(["arm", *columns, "cost of the whole answer, in grades"], rows)
