"""nginx in front, as configs/nginx/nginx.conf sets it up."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

CONF = Path(__file__).parents[2] / "configs" / "nginx" / "nginx.conf"
BODY = {"query": "usb c cable", "documents": ["HDMI cable", "USB-C to USB-C 1 m"]}

pytestmark = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin") is None, reason="no nginx"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def nginx(folder: Path, *arguments: str) -> list[str]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    return [str(program), "-p", str(folder), "-c", "nginx.conf", *arguments]


@pytest.fixture
def proxy_url(service_url: str, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    conf = CONF.read_text(encoding="utf-8")
    assert "127.0.0.1:8080" in conf
    assert "listen 8081;" in conf
    conf = conf.replace("127.0.0.1:8080", service_url.removeprefix("http://"))
    (tmp_path / "nginx.conf").write_text(conf.replace("listen 8081;", f"listen 127.0.0.1:{port};"), encoding="utf-8")
    checked = subprocess.run(nginx(tmp_path, "-t"), capture_output=True, text=True, check=False)
    assert "test is successful" in checked.stderr, checked.stderr
    with subprocess.Popen(nginx(tmp_path, "-g", "daemon off;")) as process:
        url = f"http://127.0.0.1:{port}"
        client = httpx.Client(transport=httpx.HTTPTransport(retries=10))
        try:
            client.get(url)
            yield url
        finally:
            client.close()
            process.terminate()


def test_a_proxied_answer_is_the_answer(proxy_url: str, service_url: str) -> None:
    direct = httpx.post(f"{service_url}/v2/rerank", json=BODY)
    proxied = httpx.post(f"{proxy_url}/v2/rerank", json=BODY)
    assert proxied.status_code == 200
    assert proxied.json()["results"] == direct.json()["results"]
    assert "infer;dur=" in proxied.headers["server-timing"]
    assert httpx.get(f"{proxy_url}/readyz").json()["stage"] == "ready"


def test_an_error_passes_in_the_clients_dialect(proxy_url: str) -> None:
    invalid = httpx.post(f"{proxy_url}/v2/rerank", json={**BODY, "documents": []})
    assert (invalid.status_code, set(invalid.json())) == (422, {"id", "message"})
    large = httpx.post(f"{proxy_url}/v2/rerank", content=b" " * 10_000_001)
    assert (large.status_code, set(large.json())) == (413, {"id", "message"})
