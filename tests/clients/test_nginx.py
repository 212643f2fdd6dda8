"""nginx in front, as configs/nginx/nginx.conf sets it up."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Proxy:
    """Its addresses, and a context that trusts its certificate and no other."""

    plain_url: str
    tls_url: str
    trust: ssl.SSLContext


def make_certificate(folder: Path) -> None:
    folder.mkdir()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def proxy(service_url: str, tmp_path: Path) -> Iterator[Proxy]:
    port, tls_port = free_port(), free_port()
    make_certificate(tmp_path / "tls")
    conf = CONF.read_text(encoding="utf-8")
    assert "127.0.0.1:8080" in conf
    assert "listen 8081;" in conf
    assert "listen 8443 ssl;" in conf
    conf = conf.replace("127.0.0.1:8080", service_url.removeprefix("http://"))
    conf = conf.replace("listen 8081;", f"listen 127.0.0.1:{port};")
    conf = conf.replace("listen 8443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;")
    (tmp_path / "nginx.conf").write_text(conf, encoding="utf-8")
    checked = subprocess.run(nginx(tmp_path, "-t"), capture_output=True, text=True, check=False)
    assert "test is successful" in checked.stderr, checked.stderr
    with subprocess.Popen(nginx(tmp_path, "-g", "daemon off;")) as process:
        url = f"http://127.0.0.1:{port}"
        client = httpx.Client(transport=httpx.HTTPTransport(retries=10))
        try:
            client.get(url)
            trust = ssl.create_default_context(cafile=tmp_path / "tls" / "server.crt")
            yield Proxy(url, f"https://127.0.0.1:{tls_port}", trust)
        finally:
            client.close()
            process.terminate()


@pytest.fixture
def proxy_url(proxy: Proxy) -> str:
    return proxy.plain_url


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


def test_tls_ends_at_the_proxy(proxy: Proxy, service_url: str) -> None:
    direct = httpx.post(f"{service_url}/score", json=BODY)
    with httpx.Client(verify=proxy.trust) as client:
        sealed = client.post(f"{proxy.tls_url}/score", json=BODY, headers={"x-request-id": "through-tls"})
    assert sealed.status_code == 200
    assert [result["score"] for result in sealed.json()["results"]] == [
        result["score"] for result in direct.json()["results"]
    ]
    assert sealed.headers["x-request-id"] == "through-tls"
    assert "max-age" in sealed.headers["strict-transport-security"]
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"), httpx.Client() as distrustful:
        distrustful.post(f"{proxy.tls_url}/score", json=BODY)
    old = ssl.create_default_context(cafile=None)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    with httpx.Client(verify=old) as client:
        assert client.get(f"{proxy.tls_url}/readyz").status_code == 200


def test_a_request_without_an_id_gets_one_of_the_proxy(proxy_url: str) -> None:
    assert len(httpx.post(f"{proxy_url}/score", json=BODY).headers["x-request-id"]) == 32
