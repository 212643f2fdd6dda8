"""GET /metrics: every series from the start, documented, and moved by traffic."""

import re
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import STAGES
from tests.api.conftest import Service
from tests.fakes import GRADE_NAMES

API_MD = Path(__file__).parents[2] / "docs" / "api.md"
GOOD = {"query": "q", "documents": ["d"]}


async def test_api_md_lists_every_series_and_no_other(service: Service) -> None:
    exported = {
        re.sub(r"_(bucket|sum|count)$", "", sample.name)
        for family in text_string_to_metric_families((await service.client.get("/metrics")).text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    listed = re.findall(r"^\| `((?:relevance|process)_\w+)", API_MD.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == sorted(exported | {name for name in listed if name.startswith("process_")})
    assert {name for name in exported if name.startswith("process_")} <= set(listed)


async def test_every_series_is_there_at_zero_before_the_first_request(service: Service) -> None:
    lines = (await service.client.get("/metrics")).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if re.match(r"relevance_(?!\w*_created)", line))
    for stage in STAGES:
        assert values[f'relevance_stage_seconds_bucket{{le="0.0001",stage="{stage}"}}'] == "0.0"
        assert values[f'relevance_stage_seconds_count{{stage="{stage}"}}'] == "0.0"
    for grade in GRADE_NAMES:
        assert values[f'relevance_grades_total{{grade="{grade}"}}'] == "0.0"
    for source in ("hit", "shared", "miss"):
        assert values[f'relevance_prefix_lookups_total{{source="{source}"}}'] == "0.0"
    nonzero = {series for series, value in values.items() if float(value) != 0.0}
    # What watches the process moves by itself, and a scrape is a request too.
    assert {
        series.partition("{")[0]
        for series in nonzero
        if not re.match(r"relevance_(loop_lag|gc_pause|key_requests)", series)
    } == {
        "relevance_cost_seconds_per_pack",
        "relevance_cost_seconds_per_token",
        "relevance_artifact_info",
        "relevance_ready",
        "relevance_tasks",
        "relevance_threads",
    }
    before = set(values)
    await service.score(GOOD)
    await service.score({"query": ""})
    after = (await service.client.get("/metrics")).text.splitlines()
    assert {line.rsplit(" ", 1)[0] for line in after if re.match(r"relevance_(?!\w*_created)", line)} == before


async def test_counters_follow_the_traffic(service: Service) -> None:
    answer = (await service.score({"query": "q", "documents": ["a", "b", "c"]})).json()
    grades = [result["grade_name"] for result in answer["results"]]
    for name in GRADE_NAMES:
        assert await service.metric(f'relevance_grades_total{{grade="{name}"}}') == grades.count(name)
    await service.score({"query": "q", "documents": ["a", "d"]})
    assert await service.metric('relevance_prefix_lookups_total{source="hit"}') == 1
    assert await service.metric('relevance_prefix_lookups_total{source="miss"}') == 1
    assert await service.metric("relevance_pack_documents_sum") == 4
    assert await service.metric("relevance_pack_tokens_sum") == 4 * 3
    assert await service.metric("relevance_prefix_batch_tokens_sum") == 2


async def test_the_exposition_keeps_the_rules_of_prometheus(service: Service) -> None:
    await service.score(GOOD)
    response = await service.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        name = family.name
        assert re.fullmatch(r"(relevance|process)_[a-z][a-z0-9_]*", name)
        assert family.documentation.strip().endswith("."), f"{name} has no HELP that says what it is"
        assert not re.search(r"_(ms|milliseconds|minutes|mib|kb|percent)$", name), f"{name}: seconds, bytes, shares"
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names == {f"{name}_total"}
        elif family.type == "histogram":
            assert names == {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
            check_buckets(family)
        else:
            assert family.type == "gauge"
            assert names == {name}
        labels = [tuple(sorted(sample.labels.items())) for sample in family.samples if "_bucket" not in sample.name]
        assert len({(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples}) == len(
            family.samples
        )
        # Nothing a caller sends may become a label: series would grow without bound.
        assert len(labels) <= 100


def check_buckets(family: Metric) -> None:
    """Each series' buckets rise, end at +Inf and hold as many as its count."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts = {}
    for sample in family.samples:
        labels = {key: value for key, value in sample.labels.items() if key != "le"}
        key = tuple(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[key] = sample.value
    for key, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1] == (float("inf"), counts[key])
