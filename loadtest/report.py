"""A run as one HTML file: no script, no font and no picture from anywhere else.

Whatever stems from a plan or a service is escaped; charts are SVG inside the page and follow its light or dark colours.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from loadtest import charts
from loadtest.progress import COLUMNS, milliseconds, number, row_of

_CSS = """
:root { color-scheme: light dark; --ink: #1e293b; --soft: #64748b; --grid: #e2e8f0; --page: #f8fafc; --card: #ffffff;
  --accent: #eff6ff; --good: #047857; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --soft: #94a3b8; --grid: #334155; --page: #0f172a;
  --card: #1e293b; --accent: #172554; --good: #34d399; --bad: #f87171; } }
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: var(--ink); background: var(--page);
  margin: 0; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 18px 64px; }
h1 { font-size: 28px; margin: 0; letter-spacing: -0.02em; }
h2 { font-size: 19px; margin: 14px 0 2px; }
p { color: var(--soft); margin: 2px 0 12px; max-width: 78ch; }
section { background: var(--card); border: 1px solid var(--grid); border-radius: 14px; padding: 6px 22px 18px;
  margin: 18px 0; overflow-x: auto; }
svg { width: 100%; height: auto; display: block; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: 14px; padding: 12px 16px; }
.card.first { background: var(--accent); }
.card b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
table { border-collapse: collapse; font-size: 13px; margin: 8px 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
td:first-child, th:first-child { text-align: left; white-space: normal; min-width: 9em; }
.yes { color: var(--good); font-weight: 600; } .no { color: var(--bad); font-weight: 600; }
pre { background: var(--page); border-radius: 8px; padding: 12px; overflow-x: auto; font-size: 12px; }
"""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _section(title: str, note: str, *parts: str | None) -> str:
    inside = "".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{inside}</section>" if inside else ""


def _cards(result: Mapping[str, Any]) -> str:
    cards: list[tuple[str, str]] = []
    knee = result["knee"]
    if knee is not None:
        cards.append((f"{knee['offered_rps']:.1f}/s", "knee: the highest load that held"))
        cards.append((f"{knee['documents_per_s']:.0f}/s", "documents there"))
    if result["closed_rps"] is not None:
        cards.append((f"{result['closed_rps']:.1f}/s", "clients that wait got"))
    for level in result["levels"]:
        if level["kind"] == "open" and level["answer_ms"]["p50"] is not None:
            times = level["answer_ms"]
            cards.append(
                (f"{milliseconds(times['p50'])} / {milliseconds(times['p99'])}", f"p50 / p99, {level['name']}")
            )
    shown = "".join(
        f'<div class="card{" first" if not place else ""}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for place, (value, what) in enumerate(cards[:6])
    )
    return f'<div class="cards">{shown}</div>'


def _verdict(value: bool | None) -> str:
    return "-" if value is None else '<span class="yes">yes</span>' if value else '<span class="no">no</span>'


def _agreement(levels: Sequence[Mapping[str, Any]]) -> str | None:
    rows = []
    for level in levels:
        told = level["agreement"]
        if "times_agree" not in told:
            continue
        rows.append(
            [
                escape(level["name"]),
                *(milliseconds(told[key]) for key in ("client_p50_ms", "service_p50_ms")),
                f"{told['difference_p50_ms']:.2f} ms",
                _verdict(told["times_agree"]),
                *(milliseconds(told.get(key)) for key in ("mean_ms_by_answers", "mean_ms_by_metrics")),
                _verdict(told.get("means_agree")),
                _verdict(told.get("counts_agree")),
            ]
        )
    header = [
        "load", "client p50", "service p50", "median difference", "agree", "mean by Server-Timing", "mean by /metrics",
        "agree", "same counts",
    ]  # fmt: skip
    return _table(header, rows) if rows else None


def _service(levels: Sequence[Mapping[str, Any]]) -> str | None:
    rows = []
    for level in levels:
        told = level.get("service")
        if told is not None:
            ratio = told["cache_hit_ratio"]
            rows.append(
                [
                    escape(level["name"]),
                    number(told["cores_used"]),
                    number(told["tokens_per_s"]),
                    number(told["tokens_per_pack"]),
                    number(told["documents_per_pack"]),
                    "-" if ratio is None else f"{ratio:.1%}",
                ]
            )
    header = ["load", "cores used", "tokens/s", "tokens a pack", "documents a pack", "scores from the cache"]
    return _table(header, rows) if rows else None


def _explanations(levels: Sequence[Mapping[str, Any]]) -> str | None:
    rows = []
    for level in levels:
        if "explained" in level:
            first, whole = level["first_piece_ms"], level["explain_ms"]
            told = ", ".join(f"{number} {escape(name)}" for name, number in level["explained"].items())
            rows.append(
                [
                    escape(level["name"]),
                    told,
                    *(milliseconds(times[q]) for times in (first, whole) for q in ("p50", "p99")),
                ]
            )
    return _table(["load", "explanations", "first piece p50", "p99", "whole p50", "p99"], rows) if rows else None


def render(result: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> str:
    """The page."""
    artifact = result["artifact"]
    told = [result["began"], *(str(artifact[key])[:16] for key in ("name", "hash", "precision") if key in artifact)]
    rows = [[escape(cell) for cell in row_of(level)] for level in result["levels"]]
    dotted = " Dotted: the earlier run." if earlier is not None else ""
    slo = f"{result['slo_ms']:g} ms"
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>Load test: {escape(result['plan']['name'])}</title>",
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_CSS}</style></head>',
            f"<body><main><h1>{escape(result['plan']['name'])}</h1><p>{escape(' · '.join(told))}</p>",
            _cards(result),
            _section(
                "Answer time against load",
                f"From when a request was due to the last byte of its answer; answered requests. Good is whole and "
                f"within {slo}.{dotted}",
                charts.latency(result, earlier),
            ),
            _section("Goodput", "What became of what was offered.", charts.goodput(result, earlier)),
            _section("Distribution", "Share of the answers within a time.", charts.cdf(result)),
            _section(
                "Where the time goes",
                "Means of answered requests. What the service tells in Server-Timing, what it leaves open (rest), and "
                "what the client measures beyond it.",
                charts.stages(result),
            ),
            _section("Explanations", "Streamed after the score.", _explanations(result["levels"])),
            _section("All loads", "In the order they were run.", _table(COLUMNS, rows)),
            _section(
                "Client and service",
                "Times agree if the median difference is below 1 ms or 5 %; counts if /metrics saw what was sent.",
                _agreement(result["levels"]),
            ),
            _section("The service meanwhile", "From /metrics, warm-up included.", _service(result["levels"])),
            _compared(earlier, result),
            _section("Plan", "", f"<pre>{escape(json.dumps(result['plan'], indent=1))}</pre>"),
            "</main></body></html>\n",
        ]
    )


def _compared(earlier: Mapping[str, Any] | None, result: Mapping[str, Any]) -> str:
    if earlier is None:
        return ""
    before = {level["name"]: level for level in earlier["levels"]}
    rows = []
    for level in result["levels"]:
        if level["name"] in before:
            pairs = [(before[level["name"]]["answer_ms"][q], level["answer_ms"][q]) for q in ("p50", "p99")]
            good = (before[level["name"]]["goodput_rps"], level["goodput_rps"])
            cells = [f"{number(good[0])} → {number(good[1])}"]
            cells += [f"{milliseconds(old)} → {milliseconds(new)}" for old, new in pairs]
            rows.append([escape(level["name"]), *cells])
    note = f"Earlier ({escape(str(earlier['began']))}) → this one, loads of the same name."
    return _section("Against the earlier run", note, _table(["load", "good/s", "p50", "p99"], rows) if rows else None)


def write_report(path: Path, result: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> None:
    """Write the page of a run, with an earlier one beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(result, earlier), encoding="utf-8")
