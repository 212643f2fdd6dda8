"""The charts of the peers: how many times as long as ours each takes, as SVG.

    python -m benchmarks.peers.chart          docs/images/peers.svg from results/peers_student.json and peers_qwen.json

One row a peer, one bar a workload, the line at 1 is ours; peers to the right of it are slower.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

ROOT = Path(__file__).parents[2]
PARTS = {"student": "the default (random cross-encoder for CrossEncoder)", "qwen": "a 0.6B Qwen3 shape"}
COLOURS = ("#3f51b5", "#26a69a", "#ffa726")
NAME = "peers.svg"


def draw_charts(results: Path, images: Path) -> None:
    """Draw what there are results of."""
    found = {part: results / f"peers_{part}.json" for part in PARTS}
    loaded = {part: json.loads(path.read_text(encoding="utf-8")) for part, path in found.items() if path.is_file()}
    if not loaded:
        return
    with pyplot.rc_context({"svg.hashsalt": "peers", "font.size": 9}):
        heights = [1.2 + 0.55 * len(result["ratios"]) for result in loaded.values()]
        figure, axes = pyplot.subplots(
            len(loaded), 1, figsize=(8, sum(heights)), squeeze=False, height_ratios=heights, layout="constrained"
        )
        for axis, (part, result) in zip(axes[:, 0], loaded.items(), strict=True):
            _draw(axis, PARTS[part], result["ratios"])
        images.mkdir(parents=True, exist_ok=True)
        figure.savefig(images / NAME, metadata={"Date": None})
        pyplot.close(figure)


def _draw(axis: Any, title: str, ratios: dict[str, dict[str, float]]) -> None:
    peers = list(ratios)
    workloads = list(dict.fromkeys(name for found in ratios.values() for name in found))
    height = 0.8 / max(1, len(workloads))
    for number, workload in enumerate(workloads):
        places = [place + (number - (len(workloads) - 1) / 2) * height for place in range(len(peers))]
        values = [ratios[peer].get(workload, 0.0) for peer in peers]
        bars = axis.barh(places, values, height, label=workload, color=COLOURS[number % len(COLOURS)])
        axis.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
    axis.set_yticks(range(len(peers)), peers)
    axis.invert_yaxis()
    axis.axvline(1.0, color="black", linewidth=1)
    axis.set_xlabel("times as long as ours")
    axis.set_title(title, loc="left")
    axis.legend(fontsize=8, loc="lower right")
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw_charts(ROOT / "results", ROOT / "docs" / "images")
    sys.exit(0)
