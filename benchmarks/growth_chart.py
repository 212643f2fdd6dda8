"""The chart of how cost grows: a column for each thing that grows, time above and memory below, as one SVG.

Points are what was measured, the lines in process what the fitted line says; over HTTP the knee is marked.
"""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "#2b6cb0", "#dd6b20", "#718096"
TITLES = {
    "documents": "documents of 32 tokens,\nprefix of 16",
    "document_tokens": "tokens of each of 8\ndocuments, prefix of 16",
    "prefix_tokens": "tokens of the prefix of 8\ndocuments of 32",
}
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e8f0",
    "legend.frameon": False,
    "svg.hashsalt": "growth",
}


def draw(result: Mapping[str, Any]) -> str:
    """The SVG; the same figures give the same bytes."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12.0, 5.4), layout="constrained")
        panels = figure.subplots(2, len(TITLES) + 1, sharex="col")
        for column, (axis, title) in enumerate(TITLES.items()):
            _draw_axis(panels[0, column], panels[1, column], result["axes"][axis], title)
        panels[0, 0].set_ylabel("ms, in process")
        panels[1, 0].set_ylabel("MiB above the loaded model")
        panels[0, 0].legend(loc="upper left")
        _draw_clients(panels[0, -1], panels[1, -1], result)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_axis(above: Axes, below: Axes, rows: list[dict[str, Any]], title: str) -> None:
    at = [row["at"] for row in rows]
    above.plot(at, [row["line_ms"] for row in rows], "--", color=GRAY, label="line")
    above.plot(at, [row["ms"] for row in rows], "o", color=BLUE, label="measured", markersize=4)
    above.set_ylim(bottom=0)
    below.plot(at, [row["memory_mib"] for row in rows], "o-", color=BLUE, markersize=4)
    below.set_ylim(bottom=0)
    below.set_xlabel(title)


def _draw_clients(above: Axes, below: Axes, result: Mapping[str, Any]) -> None:
    rows, knee = result["clients"], result["knee_clients"]
    at = [row["at"] for row in rows]
    for name, colour in (("p50_ms", BLUE), ("p99_ms", ORANGE)):
        above.plot(at, [row[name] for row in rows], "o-", color=colour, markersize=4, label=name.removesuffix("_ms"))
    rates = above.twinx()
    rates.plot(at, [row["requests_per_s"] for row in rows], "s:", color=GRAY, markersize=4, label="requests/s")
    rates.set(ylim=(0, None), ylabel="requests/s (dotted)")
    rates.grid(visible=False)
    rates.spines["right"].set_visible(True)
    above.set(xscale="log", ylim=(0, None), ylabel="ms, over HTTP")
    above.axvline(knee, color=GRAY, linewidth=1)
    above.annotate(
        f"knee: {knee}", (knee, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0), textcoords="offset points"
    )
    above.legend(loc="upper left")
    below.plot(at, [row["memory_mib"] for row in rows], "o-", color=BLUE, markersize=4)
    below.set(xscale="log", ylim=(0, None), ylabel="MiB of all its processes")
    below.set_xticks(at, [str(one) for one in at])
    below.minorticks_off()
    below.set_xlabel(f"clients, {result['settings']['documents']} documents a request")
