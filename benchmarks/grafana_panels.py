"""Panels of a Grafana dashboard as data, the PromQL they are made of, and how Grafana keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SOURCE = {"type": "prometheus", "uid": "prometheus"}
JOB = 'job="$job"'
WIDTH = 24


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its series are called."""

    expr: str
    legend: str = ""
    is_heatmap: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `kind` is Grafana's name for it."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    note: str = ""
    is_stacked: bool = False


def rate(series: str, labels: str = "", by: str = "") -> str:
    """Growth a second of a counter, over workers and replicas."""
    inside = f"{JOB}, {labels}" if labels else JOB
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({series}{{{inside}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, labels: str = "") -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(histogram + '_bucket', labels, 'le')})"


def quantiles(histogram: str, labels: str = "") -> tuple[Query, ...]:
    """Median and tail."""
    return tuple(Query(quantile(share, histogram, labels), f"p{100 * share:g}") for share in (0.5, 0.95, 0.99))


def mean(histogram: str, labels: str = "") -> str:
    """Mean of what a histogram saw."""
    return f"{rate(histogram + '_sum', labels)} / {rate(histogram + '_count', labels)}"


def panel_json(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana keeps it."""
    targets = [
        {
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "refId": chr(ord("A") + place),
            "format": "heatmap" if query.is_heatmap else "time_series",
        }
        for place, query in enumerate(panel.queries)
    ]
    custom: dict[str, Any] = {"fillOpacity": 70 if panel.is_stacked else 8, "lineWidth": 1, "showPoints": "never"}
    if panel.is_stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    options: dict[str, Any] = {}
    if panel.kind == "heatmap":
        custom = {}
        options = {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Turbo", "mode": "scheme"}}
    elif panel.kind == "stat":
        custom = {}
        is_name = panel.title == "artifact"
        options = {"textMode": "name" if is_name else "value", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.note,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": 4 if panel.kind == "stat" else 8},
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": options,
    }


def layout(rows: Mapping[str, Sequence[Panel]]) -> list[dict[str, Any]]:
    """Rows one under another, panels from left to right."""
    placed: list[dict[str, Any]] = []
    y = 0
    for title, panels in rows.items():
        head = {"id": len(placed) + 1, "title": title, "type": "row", "collapsed": False, "panels": []}
        placed.append({**head, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        y, x, height = y + 1, 0, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            placed.append(panel_json(panel, len(placed) + 1, x, y))
            x, height = x + panel.width, max(height, placed[-1]["gridPos"]["h"])
        y += height
    return placed
