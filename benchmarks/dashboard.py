"""The Grafana dashboard: its rows of panels, and their queries.

    python -m benchmarks.dashboard        writes configs/grafana/dashboards/answer-first.json

Every series is summed over workers. Tests run each query against a real Prometheus that scrapes a real service.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.blocks.tables import ROOT
from benchmarks.grafana_panels import JOB, SOURCE, WIDTH, Panel, Query, layout, mean, quantile, quantiles, rate

PATH = ROOT / "configs" / "grafana" / "dashboards" / "answer-first.json"
REFUSED = "overloaded|deadline_unmeetable"
STAGES = ("tokenise", "queue", "infer", "post", "total")


def heatmap(stage: str) -> Panel:
    """How long one stage took, over time."""
    query = Query(rate("relevance_stage_seconds_bucket", f'stage="{stage}"', "le"), "{{le}}", is_heatmap=True)
    return Panel(f"{stage}: time", (query,), "s", "heatmap", 12 if stage in STAGES[:4] else WIDTH)


def _now() -> list[Panel]:
    good = rate("relevance_stage_seconds_bucket", 'stage="total", le="0.4096"')
    return [
        Panel("ready", (Query(f"min(relevance_ready{{{JOB}}})"),), kind="stat", width=3),
        Panel("answered within 410 ms", (Query(good),), "reqps", "stat", 4),
        Panel("p99", (Query(quantile(0.99, "relevance_stage_seconds", 'stage="total"')),), "s", "stat", 4),
        Panel("refused", (Query(rate("relevance_requests_total", f'outcome=~"{REFUSED}"')),), "reqps", "stat", 4),
        Panel("documents", (Query(rate("relevance_pairs_total")),), "cps", "stat", 4),
        Panel(
            "artifact", (Query(f"relevance_artifact_info{{{JOB}}}", "{{name}} {{precision}}"),), kind="stat", width=5
        ),
    ]


def _load() -> list[Panel]:
    return [
        Panel(
            "requests by outcome",
            (Query(rate("relevance_requests_total", by="outcome"), "{{outcome}}"),),
            "reqps",
            width=12,
            note="ok is goodput unless callers have left; overloaded and deadline_unmeetable are refusals",
            is_stacked=True,
        ),
        Panel(
            "error budget burnt, times what the objective allows",
            (
                Query(f"relevance:bad_ratio:rate5m{{{JOB}}} / 0.01", "5 minutes"),
                Query(f"relevance:bad_ratio:rate1h{{{JOB}}} / 0.01", "1 hour"),
            ),
            width=12,
            note="above 14.4 for an hour pages; recorded by configs/prometheus/rules.yml",
        ),
        Panel("answer time", quantiles("relevance_stage_seconds", 'stage="total"'), "s"),
        Panel(
            "mean time by stage",
            tuple(Query(mean("relevance_stage_seconds", f'stage="{stage}"'), stage) for stage in STAGES[:4]),
            "s",
            is_stacked=True,
        ),
        Panel(
            "waiting",
            (
                Query(f"sum(relevance_waiting_documents{{{JOB}}})", "documents"),
                Query(f"sum(relevance_waiting_tokens{{{JOB}}})", "tokens"),
            ),
        ),
        Panel(
            "let in, and not answered",
            (
                Query(rate("relevance_expired_requests_total", by="step"), "expired, {{step}}"),
                Query(rate("relevance_cancelled_requests_total", by="step"), "hung up, {{step}}"),
            ),
            "reqps",
        ),
        Panel(
            "requests by dialect",
            (Query(rate("relevance_dialect_requests_total", by="dialect"), "{{dialect}}"),),
            "reqps",
            is_stacked=True,
        ),
        Panel(
            "requests by key",
            (Query(rate("relevance_key_requests_total", by="key"), "{{key}}"),),
            "reqps",
            is_stacked=True,
        ),
    ]


def _engine() -> list[Panel]:
    tokens = Query(rate("relevance_pack_tokens_bucket", by="le"), "{{le}}", is_heatmap=True)
    per_token, per_pack = (f"avg(relevance_cost_seconds_per_{noun}{{{JOB}}})" for noun in ("token", "pack"))
    return [
        Panel("tokens a pack", (tokens,), "short", "heatmap"),
        Panel("documents a pack", quantiles("relevance_pack_documents")),
        Panel(
            "tokens a second",
            (
                Query(rate("relevance_pack_tokens_sum"), "documents"),
                Query(rate("relevance_prefix_batch_tokens_sum"), "prefixes"),
                Query(rate("relevance_padding_tokens_total"), "padding: must stay 0"),
            ),
        ),
        Panel("a token costs", (Query(per_token),), "s"),
        Panel("a pack costs beside its tokens", (Query(per_pack),), "s"),
        Panel("engine calls that raised", (Query(rate("relevance_failed_batches_total")),), "cps"),
    ]


def _caches() -> list[Panel]:
    return [
        Panel(
            "scores by where they came from",
            (Query(rate("relevance_score_lookups_total", by="source"), "{{source}}"),),
            "cps",
            is_stacked=True,
        ),
        Panel(
            "prefixes by where their KV came from",
            (Query(rate("relevance_prefix_lookups_total", by="source"), "{{source}}"),),
            "cps",
            is_stacked=True,
        ),
        Panel(
            "memory of caches",
            tuple(
                Query(f"sum(relevance_{cache}_bytes{{{JOB}}})", cache.replace("_", " "))
                for cache in ("score_cache", "prefix_cache", "handle_texts", "explanation_cache")
            ),
            "bytes",
        ),
        Panel(
            "Redis",
            (
                Query(rate("relevance_redis_failures_total"), "failures"),
                Query(rate("relevance_redis_dropped_writes_total"), "writes dropped"),
            ),
            "cps",
        ),
    ]


def _explanations() -> list[Panel]:
    return [
        Panel(
            "explanations by outcome",
            (Query(rate("relevance_explanations_total", by="outcome"), "{{outcome}}"),),
            "cps",
            is_stacked=True,
        ),
        Panel("open streams", (Query(f"sum(relevance_explain_streams{{{JOB}}})"),)),
        Panel("first piece after", quantiles("relevance_explain_first_piece_seconds"), "s"),
        Panel("between two tokens", quantiles("relevance_explain_token_seconds"), "s"),
        Panel(
            "tokens decoded a second, by time spent",
            (
                Query(rate("relevance_explain_tokens_total"), "tokens/s"),
                Query(rate("relevance_explain_decode_seconds_total"), "engine busy, share"),
            ),
        ),
        Panel(
            "explanations by where they came from",
            (
                Query(rate("relevance_explanation_sources_total", by="source"), "{{source}}"),
                Query(rate("relevance_explain_begun_total", by="kv"), "decoded: {{kv}}"),
            ),
            "cps",
        ),
    ]


def _grades() -> list[Panel]:
    share = f"{rate('relevance_grades_total', by='grade')} / ignoring (grade) group_left () "
    share += rate("relevance_grades_total")
    return [
        Panel("grades given", (Query(share, "{{grade}}"),), "percentunit", width=12, is_stacked=True),
        Panel(
            "drift of grades: the last hour against the last day",
            (Query(f"relevance:grade_drift{{{JOB}}}"),),
            "percentunit",
            width=12,
            note="share of pairs that would need another grade; above 10 % raises AnswerFirstGradesDrift",
        ),
        Panel(
            "documents cut",
            (Query(f"{rate('relevance_truncated_pairs_total')} / {rate('relevance_pairs_total')}"),),
            "percentunit",
        ),
        Panel("shadow: difference of scores", quantiles("relevance_shadow_score_difference")),
        Panel(
            "shadow: grades that flip",
            (Query(rate("relevance_shadow_grade_flips_total", by="grade"), "{{grade}}"),),
            "cps",
        ),
    ]


def _process() -> list[Panel]:
    return [
        Panel("cores used", (Query(rate("process_cpu_seconds_total")),), "short"),
        Panel("memory", (Query(f"sum(process_resident_memory_bytes{{{JOB}}})"),), "bytes"),
        Panel("event loop is late by", quantiles("relevance_loop_lag_seconds"), "s"),
        Panel("garbage collection", (Query(rate("relevance_gc_pause_seconds_sum")),), "percentunit"),
        Panel(
            "open files, tasks, threads",
            tuple(
                Query(f"sum({series}{{{JOB}}})", name)
                for series, name in (
                    ("process_open_fds", "files"),
                    ("relevance_tasks", "tasks"),
                    ("relevance_threads", "threads"),
                )
            ),
        ),
        Panel("artifact changes", (Query(rate("relevance_swaps_total", by="outcome"), "{{outcome}}"),), "cps"),
    ]


ROWS: dict[str, list[Panel]] = {
    "Now": _now(),
    "Load and answers": _load(),
    "Time by stage": [heatmap(stage) for stage in STAGES],
    "Engine": _engine(),
    "Caches": _caches(),
    "Explanations": _explanations(),
    "Grades": _grades(),
    "Process": _process(),
}


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    job = {
        "name": "job",
        "label": "service",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": "label_values(relevance_ready, job)", "refId": "job"},
        "refresh": 1,
        "current": {"text": "answer-first", "value": "answer-first"},
    }
    return {
        "uid": "answer-first",
        "title": "Answer First",
        "tags": ["relevance"],
        "timezone": "browser",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [job]},
        "panels": layout(ROWS),
    }


def rendered() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def main(path: Path = PATH) -> int:
    """Write it; the exit status."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rendered(), encoding="utf-8")
    print(json.dumps({"panels": sum(len(panels) for panels in ROWS.values())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
