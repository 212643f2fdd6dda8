"""Plots of the arms, from their result: what is forgotten while a policy learns, and recall per rule.

    python -m training.arms.plots results/arms.json docs/images

arms_collapse.svg   entropy of the grade token, recall of common and of rare rules over the steps of every policy arm
arms_rules.svg      recall per rule at the end, rare rules last
Lines are means over seeds, bands run from the lowest seed to the highest. The same result gives the same file.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

CURVES = {
    "grade_entropy": "entropy of the grade token, nats",
    "common_recall": "recall, common rules",
    "rare_recall": "recall, rare rules",
}


def policy_arms(result: dict[str, Any]) -> list[str]:
    """Arms that go on from the answer-first checkpoint, in the order of the configuration."""
    return [
        arm["name"]
        for arm in result["config"]["arms"]
        if arm["start"] == "answer_first" and arm["name"] in result["arms"]
    ]


def _curve(axes: Axes, points: list[list[dict[str, float]]], figure: str, label: str) -> None:
    steps = [point["step"] for point in points[0]]
    values = np.array([[point[figure] for point in seed] for seed in points])  # [seeds, points]
    share = np.array(steps) / max(steps)
    (line,) = axes.plot(share, values.mean(0), label=label, linewidth=1.6)
    axes.fill_between(share, values.min(0), values.max(0), alpha=0.12, color=line.get_color(), linewidth=0)


def collapse(result: dict[str, Any]) -> Figure:
    """Three panels over the length of the stage after answer-first SFT."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, len(CURVES))
    for axes, (key, label) in zip(panels, CURVES.items(), strict=True):
        for name in policy_arms(result):
            _curve(axes, result["arms"][name]["curves"], key, name)
        axes.set(title=label, xlabel="share of the stage's steps")
        axes.grid(alpha=0.25)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def rules(result: dict[str, Any]) -> Figure:
    """Recall per rule, one row an arm, one column a rule."""
    names = sorted(result["rules"], key=lambda rule: -result["rules"][rule]["share"])
    arms = list(result["arms"])
    values = np.array([[result["arms"][arm]["rules"][rule]["mean"] for rule in names] for arm in arms])
    figure = Figure(figsize=(11, 0.42 * len(arms) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
    for row, column in np.ndindex(values.shape):
        shade = "black" if values[row, column] > 0.6 else "white"
        axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", fontsize=7, color=shade)
    shown = [f"{rule}\n{100 * result['rules'][rule]['share']:.3g} %" for rule in names]
    axes.set_xticks(range(len(names)), shown, fontsize=7, rotation=30, ha="right")
    axes.set_yticks(range(len(arms)), arms, fontsize=8)
    axes.set_title("recall per rule, mean over seeds (share of the rule among training pairs below)", fontsize=9)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    result = json.loads(args.result.read_text(encoding="utf-8"))
    args.folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "arms", "font.size": 9}):
        for name, draw in (("arms_collapse", collapse), ("arms_rules", rules)):
            draw(result).savefig(args.folder / f"{name}.svg", metadata={"Date": None})
            print(args.folder / f"{name}.svg")


if __name__ == "__main__":
    main()
