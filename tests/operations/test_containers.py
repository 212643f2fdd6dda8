"""The image and the compose file, as far as they can be tried without a container engine.

hadolint and Docker Compose come with `make install-dev`; the service runs here from exactly what the image has.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny_artifact"
SCRIPTS = Path(sys.executable).parent


def stages() -> dict[str, list[str]]:
    """Instructions of the Dockerfile by stage, continued lines joined, `FROM` first."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("FROM "):
            current = found[line.rpartition(" AS ")[2]] = []
        if line and not line.startswith("#"):
            current.append(line)
    return found


def instructions(name: str) -> list[str]:
    """What a stage's image is made of, its base stages' instructions first."""
    own = stages()[name]
    base = own[0].split()[1]
    return ([] if base not in stages() else instructions(base)) + own[1:]


def argument(name: str, instruction: str) -> list[str]:
    """The last exec form of an instruction in a stage."""
    shown = [line for line in instructions(name) if line.startswith(instruction + " ")]
    content: list[str] = json.loads(shown[-1][shown[-1].index("[") :])
    return content


@pytest.fixture(scope="module")
def app_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/app of the image, put together by its COPY instructions; the artifact is the tests' small one."""
    folder = tmp_path_factory.mktemp("image") / "app"
    for line in stages()["code"]:
        match = re.match(r"COPY (\S+) (\S+)$", line)
        if match:
            source = TINY if match[1] == "artifacts/default" else ROOT / match[1]
            shutil.copytree(source, folder / match[2], ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_dockerfile_passes_hadolint() -> None:
    run = subprocess.run([SCRIPTS / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


def test_every_path_of_the_image_is_there_and_is_let_through_to_the_engine() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    for lines in stages().values():
        for line in lines:
            if line.startswith("COPY ") and "--from" not in line:
                for source in shlex.split(line)[1:-1]:
                    assert (ROOT / source).exists(), line
                    assert source in let_through, line


def test_images_run_as_nobody_with_a_health_check_and_without_torch() -> None:
    tool = runpy.run_path(str(ROOT / "configs" / "docker" / "requirements.py"))
    for target in ("cpu", "gpu"):
        users = [line for line in instructions(target) if line.startswith("USER ")]
        assert users[-1] == "USER 10001:10001"
        assert any(line.startswith("HEALTHCHECK ") for line in instructions(target))
        (extras,) = re.findall(r"requirements\.py pyproject\.toml (.+?) >", " ".join(instructions(f"{target}-venv")))
        listed = tool["requirements"](ROOT / "pyproject.toml", extras.split())
        assert any(line.startswith("onnxruntime") for line in listed)
        assert not [line for line in listed if re.match(r"(torch|transformers|onnx)\b(?!runtime)", line)]


def test_what_is_in_the_image_serves_answers_its_health_check_and_writes_nothing(
    app_folder: Path, tmp_path: Path
) -> None:
    before = sorted(app_folder.rglob("*"))
    command = [sys.executable, *argument("cpu", "ENTRYPOINT")[1:], *argument("cpu", "CMD"), "--workers", "1"]
    command = ["127.0.0.1" if part == "0.0.0.0" else part for part in command]
    environment = {"PATH": os.defpath, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    environment["ANSWER_FIRST_PORT"] = "0"
    with subprocess.Popen(command, cwd=app_folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = ""
            for line in process.stderr:
                found = re.search(r"running on http://[\d.]+:(\d+)", line)
                port = found[1] if found else port
                if "service ready" in line:
                    break
            assert port, "the service ended"
            check = [part.replace(":8080/", f":{port}/") for part in argument("cpu", "HEALTHCHECK")]
            assert check != argument("cpu", "HEALTHCHECK")
            subprocess.run([sys.executable, *check[1:]], check=True, env=environment)
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0
    assert sorted(app_folder.rglob("*")) == before


def test_the_health_check_fails_where_nothing_is_ready() -> None:
    check = [part.replace(":8080/", ":9/") for part in argument("cpu", "HEALTHCHECK")]
    run = subprocess.run([sys.executable, *check[1:]], capture_output=True, check=False)
    assert run.returncode != 0


def composed(*files: str) -> dict[str, Any]:
    """What Docker Compose makes of the files, every profile on."""
    arguments = [part for file in files for part in ("-f", file)]
    command = [SCRIPTS / "docker-compose", *arguments, "--profile", "*", "config", "--format", "json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    services: dict[str, Any] = json.loads(run.stdout)["services"]
    return services


def test_compose_takes_the_file_and_the_service_is_shut_in() -> None:
    services = composed("docker-compose.yml")
    assert set(services) == {"answer-first", "prometheus", "grafana", "redis", "loadtest"}
    service = services["answer-first"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["build"]["target"] in stages()
    assert services["loadtest"]["build"]["target"] in stages()
    for one in services.values():
        assert all(port["host_ip"] == "127.0.0.1" for port in one.get("ports", [])), "open to other machines"
        for volume in one.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), volume["source"]
                assert volume["read_only"]


def test_compose_waits_for_the_service_as_long_as_it_drains() -> None:
    grace = composed("docker-compose.yml")["answer-first"]["stop_grace_period"]
    from service.settings import Settings  # noqa: PLC0415 - reads nothing but its defaults

    settings = Settings.model_fields
    needed = settings["drain_seconds"].default + settings["stop_delay_seconds"].default + 5
    assert grace == "20s"
    assert needed < 20


def test_prometheus_and_grafana_find_what_the_compose_file_mounts() -> None:
    services = composed("docker-compose.yml")
    mounted = {
        volume["target"]: Path(volume["source"])
        for name in ("prometheus", "grafana")
        for volume in services[name]["volumes"]
        if volume["type"] == "bind"
    }
    (config,) = [part.partition("=")[2] for part in services["prometheus"]["command"] if "config.file" in part]
    assert (mounted["/etc/prometheus"] / Path(config).name).is_file()
    assert "answer-first:8080" in (mounted["/etc/prometheus"] / Path(config).name).read_text()
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (mounted["/etc/grafana/dashboards"] / Path(home).name).is_file()
    provider = (mounted["/etc/grafana/provisioning"] / "dashboards" / "answer-first.yml").read_text()
    assert f"path: {Path(home).parent}" in provider
    source = (mounted["/etc/grafana/provisioning"] / "datasources" / "prometheus.yml").read_text()
    assert "url: http://prometheus:9090" in source


def test_the_gpu_file_asks_for_a_gpu_and_serves_what_it_is_given() -> None:
    service = composed("docker-compose.yml", "docker-compose.gpu.yml")["answer-first"]
    assert service["build"]["target"] == "gpu"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "/artifact" in service["command"]
    assert any(volume["target"] == "/artifact" and volume["read_only"] for volume in service["volumes"])
