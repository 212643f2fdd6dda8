"""The charts of a report, each a function from a run's figures to an SVG whose colours follow the page.

Text, axes and grid are drawn in stand-in colours that become CSS variables, so that one SVG is readable on a light
page and on a dark one.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

BLUE, ORANGE, GREEN, RED, VIOLET, TEAL, GRAY = (
    "#3b82f6",
    "#f59e0b",
    "#10b981",
    "#ef4444",
    "#8b5cf6",
    "#14b8a6",
    "#94a3b8",
)
_INK, _GRID = "#010203", "#040506"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "svg.fonttype": "none",
}
_STAGE_COLOURS = {
    "late sending": GRAY,
    "outside the service": VIOLET,
    "tokenise": TEAL,
    "queue": ORANGE,
    "infer": BLUE,
    "post": GREEN,
    "rest of the service": RED,
}
Level = Mapping[str, Any]


def _svg(figure: Figure, name: str) -> str:
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    svg = svg.replace(_INK, "var(--ink)").replace(_GRID, "var(--grid)")
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    svg = re.sub(r' id="((?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib)[\w.]*)"', rf' id="{name}-\1"', svg)
    # The page sets the size; the view box keeps the shape.
    return re.sub(r'(<svg [^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{name}"', svg, count=1).replace(
        ' width="', ' data-width="', 1
    )


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _plain_numbers(axis: Axis) -> None:
    """20, 50, 100 along a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def by_load(levels: Sequence[Level]) -> list[Level]:
    """Open loops by rising load."""
    return sorted((level for level in levels if level["offered_rps"] is not None), key=lambda one: one["offered_rps"])


def latency(result: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> str | None:
    """Answer times against offered load, with the knee and what an answer may take; None without an open loop."""
    levels = [level for level in by_load(result["levels"]) if level["answer_ms"]["p50"] is not None]
    if not levels:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(9.0, 4.0)
        for name, colour in (("p50", BLUE), ("p95", ORANGE), ("p99", RED)):
            at = [level["offered_rps"] for level in levels]
            axes.plot(at, [level["answer_ms"][name] for level in levels], "o-", color=colour, markersize=5, label=name)
            if earlier is not None:
                past = [level for level in by_load(earlier["levels"]) if level["answer_ms"][name] is not None]
                at = [level["offered_rps"] for level in past]
                axes.plot(at, [level["answer_ms"][name] for level in past], ":", color=colour, linewidth=1.4)
        axes.axhline(result["slo_ms"], color=GREEN, linestyle="--", linewidth=1.3)
        axes.annotate(
            f"{result['slo_ms']:g} ms",
            (1.0, result["slo_ms"]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color=GREEN,
        )
        _mark_knee(axes, result)
        axes.set(xlabel="offered load, requests a second", ylabel="answered within, ms", yscale="log")
        _plain_numbers(axes.yaxis)
        axes.set_xlim(left=0)
        axes.legend(loc="lower right")
        return _svg(figure, "latency")


def _mark_knee(axes: Axes, result: Mapping[str, Any]) -> None:
    if result["knee"] is not None:
        rate = result["knee"]["offered_rps"]
        axes.axvline(rate, color=VIOLET, linewidth=1.5)
        axes.annotate(
            f"knee {rate:.1f}/s",
            (rate, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5, -26),
            textcoords="offset points",
            color=VIOLET,
            ha="right",
            va="top",
        )


def goodput(result: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> str | None:
    """Good answers a second against offered load, and what became of the others; None without an open loop."""
    levels = by_load(result["levels"])
    if not levels:
        return None
    at = [level["offered_rps"] for level in levels]
    good = [level["goodput_rps"] for level in levels]
    late, refused = [], []
    for level in levels:
        told = level["outcomes"]
        refused.append((told.get("refused", 0) + told.get("expired", 0)) / level["seconds"])
        late.append(max(0.0, (told.get("ok", 0) + told.get("partial", 0)) / level["seconds"] - level["goodput_rps"]))
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(9.0, 3.8)
        axes.stackplot(
            at,
            good,
            late,
            refused,
            colors=(GREEN, ORANGE, RED),
            alpha=0.75,
            labels=("good", "answered late or in part", "refused or expired"),
        )
        axes.plot([0, max(at)], [0, max(at)], "--", color=GRAY, linewidth=1.3, label="offered")
        if earlier is not None:
            past = by_load(earlier["levels"])
            axes.plot(
                [one["offered_rps"] for one in past],
                [one["goodput_rps"] for one in past],
                ":",
                color=BLUE,
                label="good, earlier run",
            )
        _mark_knee(axes, result)
        axes.set(xlabel="offered load, requests a second", ylabel="requests a second", xlim=(0, None), ylim=(0, None))
        axes.legend(loc="upper left")
        return _svg(figure, "goodput")


def cdf(result: Mapping[str, Any]) -> str | None:
    """Share of answers within a time, a curve per load that is no level of a ramp (all loads where there is none)."""
    chosen = [level for level in result["levels"] if level["kind"] != "ramp"] or by_load(result["levels"])
    chosen = [level for level in chosen if level["cdf"]][:7]
    if not chosen:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(9.0, 3.8)
        for level, colour in zip(chosen, (BLUE, ORANGE, GREEN, RED, VIOLET, TEAL, GRAY), strict=False):
            axes.plot(*zip(*level["cdf"], strict=True), color=colour, label=level["name"])
        axes.axvline(result["slo_ms"], color=GREEN, linestyle="--", linewidth=1.3)
        axes.set(xlabel="answered within, ms", ylabel="share of answers", xscale="log", ylim=(0, 1.01))
        _plain_numbers(axes.xaxis)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend(loc="upper left")
        return _svg(figure, "cdf")


def stages(result: Mapping[str, Any]) -> str | None:
    """Where an answer's time went on average, stage on stage; None where the service tells no stages."""
    levels = [one for one in result["levels"] if one["stages_ms"] and one["offered_rps"] is None]
    levels += [one for one in by_load(result["levels"]) if one["stages_ms"]]
    if not levels:
        return None
    with mpl.rc_context({**_STYLE, "axes.grid.axis": "x"}):
        figure, axes = _axes(9.0, 1.3 + 0.34 * len(levels))
        left = [0.0] * len(levels)
        for stage, colour in _STAGE_COLOURS.items():
            widths = [(level["stages_ms"].get(stage) or {}).get("mean") or 0.0 for level in levels]
            axes.barh(range(len(levels)), widths, left=left, color=colour, height=0.72, label=stage)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        names = [
            one["name"] if one["offered_rps"] is None else f"{one['name']} ({one['offered_rps']:.1f}/s)"
            for one in levels
        ]
        axes.set_yticks(range(len(levels)), names)
        axes.invert_yaxis()
        axes.set_xlabel("mean of an answer, ms")
        figure.legend(loc="outside upper center", ncols=4)
        return _svg(figure, "stages")
