"""The report as one HTML text: no script, no font and no picture from anywhere else.

Whatever stems from data or names is escaped; plots are inlined as SVG images.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from training.report import plots
from training.report.log import RunHistory

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1a202c; background: #f7fafc;
  margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 26px; margin: 8px 0 2px; }
h2 { font-size: 20px; margin: 18px 0 6px; }
h3 { font-size: 16px; margin: 20px 0 4px; }
.note { color: #4a5568; margin: 2px 0 12px; }
section { background: #fff; border: 1px solid #e2e8f0; border-radius: 10px; padding: 4px 22px 18px; margin: 18px 0; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 12px 0; }
.card { background: #ebf4ff; border-radius: 8px; padding: 8px 14px; min-width: 90px; }
.card b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.card span { color: #4a5568; font-size: 12px; }
table { border-collapse: collapse; font-size: 13px; margin: 8px 0; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid #edf2f7; }
th { color: #4a5568; font-weight: 600; }
td:first-child, th:first-child { text-align: left; }
table.config td { text-align: left; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; display: block; }
.row { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
"""
_CARDS = {
    "ndcg_at_10": "nDCG@10",
    "qwk": "kappa",
    "macro_f1": "macro-F1",
    "accuracy": "accuracy",
    "spearman": "Spearman",
}


@dataclass(frozen=True, slots=True)
class FileReport:
    """A data file as a checkpoint grades it."""

    name: str
    figures: Mapping[str, float]
    details: Mapping[str, Any]


def _image(svg: str | None, what: str) -> str:
    if svg is None:
        return ""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(what)}" src="data:image/svg+xml;base64,{data}">'


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """An HTML table; numbers with three places."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _named_rows(figures: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> list[list[object]]:
    return [[name, *(row.get(column) for column in columns)] for name, row in figures.items()]


def _cards(report: FileReport) -> str:
    details = report.details
    shown = {label: report.figures[key] for key, label in _CARDS.items() if key in report.figures}
    shown |= {"ECE before": details["ece"]["before"], "ECE after": details["ece"]["after"]}
    shown["entropy, nats"] = details["entropy"]["after"]
    cards = "".join(f'<div class="card"><b>{v:.3f}</b><span>{escape(k)}</span></div>' for k, v in shown.items())
    return f'<div class="cards">{cards}</div>'


def _file_section(report: FileReport) -> str:
    details = report.details
    names = list(details["grades"])
    rule_columns, slice_columns = (
        ("num_pairs", "accuracy", "recall", "kept"),
        ("num_pairs", "accuracy", "macro_f1", "qwk"),
    )
    ordered = dict(sorted(details["rules"].items(), key=lambda item: -item[1]["num_pairs"]))
    return "".join(
        [
            f"<section><h2>{escape(report.name)}</h2>",
            f'<p class="note">{report.figures["num_pairs"]} pairs, {report.figures["num_queries"]} queries</p>',
            _cards(report),
            '<div class="row">',
            f"<div><h3>Confusion</h3>{_image(plots.confusion(details['confusion'], names), 'confusion matrix')}</div>",
            f"<div><h3>Calibration</h3>{_image(plots.reliability(dict(details)), 'reliability diagrams')}</div></div>",
            "<h3>Grades and collapse</h3>",
            '<p class="note">A grade the model has given up on is never predicted and has no recall; a model that has '
            "collapsed has little entropy everywhere.</p>",
            _image(plots.grades(dict(details)), "figures per grade"),
            table(
                ["grade", "gold", "predicted", "f1", "recall", "entropy"],
                _named_rows(details["grades"], ("gold", "predicted", "f1", "recall", "entropy")),
            ),
            "<h3>Rules</h3>" if ordered else "",
            _image(plots.rules(ordered), "recall per rule"),
            table(["rule", *rule_columns], _named_rows(ordered, rule_columns)) if ordered else "",
            "<h3>Slices</h3>",
            table(["slice", *slice_columns], _named_rows(details["slices"], slice_columns)),
            "</section>",
        ]
    )


def _history_section(history: RunHistory) -> str:
    parts = ["<section><h2>Learning</h2>"]
    if history.tokens:
        parts.append(f'<p class="note">{history.tokens:,} tokens</p>')
    parts.append(_image(plots.step_curves(history.steps), "curves of the steps"))
    parts.append(_image(plots.validation_curves(history.validation), "curves of the validation figures"))
    if history.stages:
        columns = ("num_rows", "synthetic", "long_tail", "wrong")
        rows = [[s["stage"], *(s[c] for c in columns), s["difficulty"]["mean"]] for s in history.stages]
        parts += ["<h3>Stages</h3>", table(["stage", *columns, "difficulty"], rows)]
    return "".join([*parts, "</section>"])


def _leaves(figures: Mapping[str, Any], path: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in figures.items():
        where = f"{path} / {key}" if path else str(key)
        if isinstance(value, Mapping):
            found += _leaves(value, where)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((where, value))
    return found


def _explanation_section(explanations: Mapping[str, Any]) -> str:
    rows = _leaves(explanations)
    return f"<section><h2>Explanations</h2>{table(['figure', 'value'], rows)}</section>"


def render_page(
    title: str,
    facts: Mapping[str, object],
    history: RunHistory,
    files: Sequence[FileReport],
    explanations: Mapping[str, Any] | None = None,
) -> str:
    """The whole page."""
    told = " · ".join(f"{escape(name)} {escape(str(value))}" for name, value in facts.items() if value is not None)
    config = "".join(
        f"<tr><td>{escape(str(key))}</td><td>{escape(str(value))}</td></tr>"
        for key, value in history.start.get("config", {}).items()
    )
    return "".join(
        [
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_CSS}</style></head><body><main>',
            f'<h1>{escape(title)}</h1><p class="note">{told}</p>',
            _history_section(history),
            *(_file_section(report) for report in files),
            "" if explanations is None else _explanation_section(explanations),
            f'<section><h2>Configuration</h2><table class="config">{config}</table></section>' if config else "",
            "</main></body></html>\n",
        ]
    )
