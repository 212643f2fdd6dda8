"""The plots of a report, each a function from figures to an SVG; the same input gives the same bytes."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.report.log import Series

BLUE, ORANGE, GREEN, GRAY, LIGHT = "#2b6cb0", "#dd6b20", "#2f855a", "#718096", "#e2e8f0"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "svg.hashsalt": "answer-first",
}
_MAX_PANELS = 12


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Mean over the last `window` values."""
    sums = np.cumsum(np.insert(np.asarray(values, dtype=np.float64), 0, 0.0))
    starts = np.maximum(np.arange(1, len(sums)) - window, 0)
    return (sums[1:] - sums[starts]) / (np.arange(1, len(sums)) - starts)


def _curve(axes: Axes, name: str, series: Series) -> None:
    steps, values = series
    window = max(1, len(values) // 40)
    if window > 1:
        axes.plot(steps, values, color=BLUE, alpha=0.2, linewidth=0.8)
    axes.plot(steps, _smooth(values, window), color=BLUE, linewidth=1.6, marker="o" if len(values) < 3 else None)
    axes.set_title(name)
    axes.set_xlabel("step")


def step_curves(steps: dict[str, Series]) -> str | None:
    """A panel per figure of the steps, loss and accuracy first; None where nothing was logged."""
    first = [name for name in ("loss", "accuracy") if name in steps]
    moving = [name for name in steps if name not in first and len(set(steps[name][1])) > 1]
    names = [*first, *moving][:_MAX_PANELS]
    if not names:
        return None
    rows = -(-len(names) // 3)
    with mpl.rc_context(_STYLE):
        figure = _figure(10.0, 2.6 * rows)
        panels = figure.subplots(rows, 3, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            _curve(axes, name, steps[name])
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        return _svg(figure)


def validation_curves(validation: dict[str, dict[str, Series]]) -> str | None:
    """A panel per figure, a line per file; None where there was no validation."""
    names = [
        n for n in ("ndcg_at_10", "qwk", "macro_f1", "accuracy", "ece") if any(n in f for f in validation.values())
    ]
    if not names:
        return None
    with mpl.rc_context(_STYLE):
        figure = _figure(10.0, 2.8)
        panels = figure.subplots(1, len(names), squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=True):
            for file, figures in validation.items():
                if name in figures:
                    axes.plot(*figures[name], marker="o", markersize=3, linewidth=1.4, label=file)
            axes.set_title(name)
            axes.set_xlabel("step")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        return _svg(figure)


def reliability(details: dict[str, Any]) -> str:
    """Accuracy against confidence before and after the temperature; bar width shows the share of pairs."""
    with mpl.rc_context(_STYLE):
        figure = _figure(7.2, 3.4)
        for axes, when in zip(figure.subplots(1, 2), ("before", "after"), strict=True):
            bins = details["reliability"][when]
            confidence = [b["confidence"] for b in bins]
            widths = [0.015 + 0.045 * (b["share"] / max(c["share"] for c in bins)) ** 0.5 for b in bins]
            axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1.0, linestyle="--")
            axes.bar(confidence, [b["accuracy"] for b in bins], width=widths, color=BLUE, alpha=0.85)
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
            axes.set_title(f"{when} temperature {details['temperature']:.2f}: ECE {details['ece'][when]:.3f}")
        return _svg(figure)


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Counts by gold (row) and predicted grade (column), shaded by the row's share."""
    table = np.asarray(counts, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = _figure(3.9, 3.4)
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        for row, column in np.ndindex(*table.shape):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{table[row, column]:.0f}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="gold")
        return _svg(figure)


def grades(details: dict[str, Any]) -> str:
    """F1 and recall per grade, how often each is gold and predicted, and entropy where it is gold."""
    table = details["grades"]
    names, places = list(table), np.arange(len(table))

    def values(key: str) -> list[float]:
        return [row[key] or 0.0 for row in table.values()]

    with mpl.rc_context(_STYLE):
        figure = _figure(10.0, 2.9)
        left, middle, right = figure.subplots(1, 3)
        left.bar(places - 0.2, values("f1"), 0.38, color=BLUE, label="F1")
        left.bar(places + 0.2, values("recall"), 0.38, color=ORANGE, label="recall")
        left.set(title="per grade", ylim=(0, 1))
        middle.bar(places - 0.2, values("gold"), 0.38, color=GRAY, label="gold")
        middle.bar(places + 0.2, values("predicted"), 0.38, color=GREEN, label="predicted")
        middle.set(title="pairs")
        right.bar(places, values("entropy"), 0.5, color=BLUE, label="mean, nats")
        right.axhline(np.log(len(names)), color=GRAY, linewidth=1.0, linestyle="--", label=f"ln {len(names)}")
        right.set(title="entropy of the grade token")
        for axes in (left, middle, right):
            axes.set_xticks(places, names, rotation=20, ha="right")
            axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


def rules(figures: dict[str, dict[str, Any]]) -> str | None:
    """Recall per rule, rarest rule last; None where no rule has enough pairs."""
    if not figures:
        return None
    ordered = sorted(figures.items(), key=lambda item: item[1]["num_pairs"])
    places = np.arange(len(ordered))
    with mpl.rc_context(_STYLE):
        figure = _figure(8.0, 0.8 + 0.28 * len(ordered))
        axes = figure.subplots()
        axes.barh(places, [row["recall"] for _, row in ordered], color=BLUE, height=0.65, label="recall over grades")
        kept = [
            (place, row["kept"]) for place, (_, row) in zip(places, ordered, strict=True) if row["kept"] is not None
        ]
        axes.scatter([k for _, k in kept], [p for p, _ in kept], color=ORANGE, zorder=3, s=18, label="rule kept")
        axes.set_yticks(places, [f"{name} ({row['num_pairs']})" for name, row in ordered])
        axes.set(xlim=(0, 1.02), title="per rule (pairs)")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure)
