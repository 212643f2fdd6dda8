"""The committed locust file, run by Locust."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

# Found, not imported: locust patches the standard library of whoever imports it.
if importlib.util.find_spec("locust") is None:
    pytest.skip("locust is in the first set of clients", allow_module_level=True)

LOCUSTFILE = Path(__file__).parents[2] / "examples" / "locust" / "locustfile.py"


def test_locust_scores_and_explains_without_a_failure(service_url: str) -> None:
    options = ["--headless", "--users", "3", "--spawn-rate", "3", "--run-time", "4s", "--json", "--host", service_url]
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *options, "--stop-timeout", "20"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    shown = {row["name"]: row for row in json.loads(run.stdout[run.stdout.index("[") :])}
    assert shown["/score"]["num_requests"] > 0
    assert all(row["num_failures"] == 0 for row in shown.values())
