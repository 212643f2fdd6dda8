"""A real Prometheus scrapes the real service with the committed rules; the dashboard's queries are asked of it.

Prometheus comes from the system (Debian: `apt-get install prometheus`), promtool with it; `.ci/run` installs it.
"""

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.dashboard import PATH as DASHBOARD
from benchmarks.dashboard import dashboard, rendered
from tests.api.test_program import Program, running

CONFIGS = Path(__file__).parents[2] / "configs" / "prometheus"
SEARCHED = "/usr/bin:/usr/local/bin:/bin"
PROMETHEUS, PROMTOOL = (shutil.which(name, path=SEARCHED) for name in ("prometheus", "promtool"))
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="no prometheus on this machine (apt-get install prometheus)"
)
# Windows of minutes and hours as windows of seconds: what takes an incident an hour shows takes this test one scrape.
SHORTENED = {"5m": "4s", "15m": "4s", "30m": "4s", "1h": "8s", "6h": "8s", "1d": "16s"}
REFUSING = ("--max-waiting-tokens", "16", "--score-cache-mib", "0")
DOCUMENTS = [f"USB-C cable number {number}, braided, two metres, 60 W" for number in range(40)]


def shortened(rules: str) -> str:
    """The rules with windows of seconds that fire at once."""
    rules = re.sub(r"\[(\w+)\]", lambda match: f"[{SHORTENED[match[1]]}]", rules)
    return re.sub(r"for: \w+", "for: 0s", rules)


class Prometheus:
    """A Prometheus of this test's own that scrapes one service."""

    def __init__(self, folder: Path, target: str) -> None:
        config = (CONFIGS / "prometheus.yml").read_text(encoding="utf-8")
        assert "answer-first:8080" in config
        config = re.sub(r"(scrape|evaluation)_interval: 15s", r"\1_interval: 1s", config)
        (folder / "prometheus.yml").write_text(config.replace("answer-first:8080", target), encoding="utf-8")
        rules = (CONFIGS / "rules.yml").read_text(encoding="utf-8")
        (folder / "rules.yml").write_text(shortened(rules), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        options += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        self.process = subprocess.Popen([str(PROMETHEUS), *options], stderr=subprocess.DEVNULL)
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=10), timeout=10
        )

        wait_until(self._is_ready, "prometheus did not start")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "prometheus ended"
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        answer = self._client.get("/api/v1/query", params={"query": expr})
        assert answer.status_code == 200, f"{expr}: {answer.text}"
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def firing(self) -> set[str]:
        """Alerts that fire."""
        alerts = self._client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def close(self) -> None:
        self._client.close()
        self.process.terminate()
        self.process.wait(timeout=30)


def wait_until(holds: Callable[[], bool], what: str | Callable[[], str], tries: int = 240) -> None:
    """Ask again, four times a second, until `holds`."""

    async def wait() -> None:
        for _ in range(tries):
            if await asyncio.to_thread(holds):
                return
            await asyncio.sleep(0.25)
        raise AssertionError(what if isinstance(what, str) else what())

    asyncio.run(wait())


@pytest.fixture(scope="module")
def service() -> Iterator[Program]:
    """A service that lets hardly anything wait, so that a few requests at once are an overload."""
    with running(*REFUSING, "--shadow-artifact", "tests/data/tiny_artifact", "--shadow-share", "1") as program:
        yield program


@pytest.fixture(scope="module")
def prometheus(service: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    one = Prometheus(tmp_path_factory.mktemp("prometheus"), service.url.removeprefix("http://"))
    try:
        wait_until(lambda: bool(one.query("relevance_ready == 1")), "nothing was scraped")
        yield one
    finally:
        one.close()


def ask(url: str, documents: list[str]) -> int:
    """Status of one request."""
    return httpx.post(f"{url}/score", json={"query": "usb c cable", "documents": documents}, timeout=30).status_code


async def overload(url: str) -> list[int]:
    """Statuses of forty requests at once."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        bodies = [{"query": f"usb c cable {n}", "documents": [f"{d} {n}" for d in DOCUMENTS]} for n in range(40)]
        answers = await asyncio.gather(*(client.post("/score", json=body) for body in bodies))
    return [answer.status_code for answer in answers]


@needs_prometheus
def test_promtool_takes_the_configuration_and_the_rules_and_their_unit_tests_pass(tmp_path: Path) -> None:
    checks = (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    )
    for arguments in checks:
        run = subprocess.run([str(PROMTOOL), *arguments], cwd=CONFIGS, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_has_a_unit_test_that_expects_it() -> None:
    alerts = re.findall(r"alert: (\w+)", (CONFIGS / "rules.yml").read_text(encoding="utf-8"))
    tests = (CONFIGS / "rules_test.yml").read_text(encoding="utf-8")
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\s+exp_alerts:\s+- exp_labels", tests), f"nothing expects {alert}"
        assert re.search(rf"alertname: {alert}, exp_alerts: \[\]", tests), f"nothing expects {alert} to be silent"


@needs_prometheus
def test_an_overload_makes_the_rules_fire_and_only_those(service: Program, prometheus: Prometheus) -> None:
    assert ask(service.url, DOCUMENTS[:1]) == 200
    wait_until(lambda: prometheus.firing() == set(), "something fires although nothing is wrong")

    def fires() -> bool:
        statuses = asyncio.run(overload(service.url))
        assert set(statuses) <= {200, 429}
        return {"AnswerFirstRefuses", "AnswerFirstBurnsBudgetFast"} <= prometheus.firing()

    wait_until(fires, "no alert fired", tries=60)
    others = prometheus.firing() - {"AnswerFirstRefuses", "AnswerFirstBurnsBudgetFast", "AnswerFirstBurnsBudgetSlowly"}
    assert others <= {"AnswerFirstGradesDrift"}
    # What Prometheus holds is what the service says.
    refused = 'relevance_requests_total{outcome="overloaded"}'
    told = service.metric(refused)
    wait_until(lambda: float(prometheus.query(refused)[0]["value"][1]) == told, "a scrape differs from /metrics")


@needs_prometheus
def test_every_query_of_the_dashboard_returns_data(service: Program, prometheus: Prometheus) -> None:
    for number in range(3):
        assert ask(service.url, DOCUMENTS[number : number + 1]) == 200
    window = "10s"
    queries = [
        (panel["title"], target["expr"].replace("$job", "answer-first").replace("$__rate_interval", window))
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(queries) > 60

    def empty() -> list[str]:
        return [f"{title}: {expr}" for title, expr in queries if not prometheus.query(expr)]

    # Rates need two scrapes, recorded ones an evaluation after them.
    wait_until(lambda: not empty(), lambda: f"no data: {empty()}", tries=60)


def test_every_series_of_the_dashboard_and_of_the_rules_is_exported(service: Program) -> None:
    exported = set(re.findall(r"^(\w+)", httpx.get(f"{service.url}/metrics").text, re.MULTILINE))
    rules = (CONFIGS / "rules.yml").read_text(encoding="utf-8")
    recorded = set(re.findall(r"record: ([\w:]+)", rules))
    asked = " ".join(
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])
    ) + " ".join(re.findall(r"expr: (?:\|\n)?((?:.|\n)*?)(?=\n\s+(?:- |for:|labels:))", rules))
    names = set(re.findall(r"\b(?:relevance[_:]|process_)[\w:]+", asked))
    assert len(names) > 50
    assert {name for name in names if ":" not in name} - exported == set()
    assert {name for name in names if ":" in name} - recorded == set()


def test_the_committed_dashboard_is_what_the_script_makes() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == rendered(), "stale: python -m benchmarks.dashboard"


def test_panels_do_not_overlap_and_every_one_has_a_query() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        assert max(x for x, _ in covered) < 24
        cells |= covered
        assert panel["type"] == "row" or panel["targets"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@needs_prometheus
def test_a_service_that_is_gone_makes_the_alarm_ring(service: Program, prometheus: Prometheus) -> None:
    """The last of this file, since it ends the service."""
    service.process.kill()
    wait_until(lambda: "AnswerFirstDown" in prometheus.firing(), "nobody noticed")
