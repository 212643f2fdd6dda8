"""Two workers behind one port, and nginx before them: whichever is asked explains what the other one scored."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.api.explain.conftest import JSON, Live, listening
from tests.api.test_program import TINY, Program, start
from tests.clients.test_nginx import CONF, free_port, make_certificate, nginx

QUERY, DOCUMENTS = "usb c cable", ["USB-C to USB-C 1 m", "HDMI cable"]
HAS_NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin") is not None


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    process = start("--artifact", str(TINY), "--port", "0", "--workers", "2")
    try:
        program = Program(process)
        for _ in range(2):
            program.wait_for("service ready")
        yield program
        assert program.stop() == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def by_worker(program: Program, series: str) -> dict[str, float]:
    text = httpx.get(f"{program.url}/metrics", timeout=20).text
    return {m[1]: float(m[2]) for m in re.finditer(rf'^{series}{{worker="(\d)".*?}} (\S+)$', text, re.MULTILINE)}


def told(events: str) -> list[tuple[str, str]]:
    """Ids and data of all but the last event, which says what the decode cost."""
    return re.findall(r"^data: (.*)\nid: (.*)$", events, re.MULTILINE)[:-1]


def test_any_worker_explains_what_any_scored(program: Program) -> None:
    # A connection for each request: which worker takes it is open.
    body = {"query": QUERY, "documents": DOCUMENTS, "explain": True}
    handles: set[str] = set()
    while len(handles) < 2:
        handles.add(httpx.post(f"{program.url}/score", json=body, timeout=20).json()["results"][0]["handle"])
    seen: set[str] = set()
    while len([n for n in by_worker(program, "relevance_explain_first_piece_seconds_count").values() if n]) < 2:
        for handle in handles:
            answer = httpx.post(f"{program.url}/explain", json={"handle": handle}, headers=JSON, timeout=20)
            assert answer.status_code == 200, answer.text
            seen.add(json.dumps(answer.json()["explanation"]))
    assert len(seen) == 1


def test_a_stream_goes_on_at_any_worker(program: Program) -> None:
    body = {"query": QUERY, "document": DOCUMENTS[0], "temperature": 1.0}
    later = httpx.post(f"{program.url}/explain", json=body, timeout=20).json()
    url = program.url + later["stream_url"]
    whole = told(httpx.get(url, timeout=20).text)
    place = 0
    while place < 10 or not all(by_worker(program, "relevance_handle_texts_bytes").values()):
        last = whole[place % 10]
        rest = httpx.get(url, headers={"last-event-id": last[1]}, timeout=20)
        assert told(rest.text) == whole[place % 10 + 1 :]
        place += 1


@asynccontextmanager
async def proxied(live: Live, folder: Path) -> AsyncIterator[str]:
    """nginx as configs/nginx sets it up, in front of `live`."""
    port, tls_port = free_port(), free_port()
    make_certificate(folder / "tls")
    conf = CONF.read_text(encoding="utf-8").replace("127.0.0.1:8080", live.url.removeprefix("http://"))
    conf = conf.replace("listen 8081;", f"listen 127.0.0.1:{port};")
    conf = conf.replace("listen 8443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;")
    (folder / "nginx.conf").write_text(conf, encoding="utf-8")
    with subprocess.Popen(nginx(folder, "-g", "daemon off;")) as process:
        try:
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=10)) as client:
                await client.get(f"http://127.0.0.1:{port}/livez")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.skipif(not HAS_NGINX, reason="no nginx")
async def test_nginx_passes_each_event_on_as_it_comes(tmp_path: Path) -> None:
    async with listening() as live, proxied(live, tmp_path) as url:
        (handle,) = await live.handles(DOCUMENTS[0])
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            through = Live(live.service, client, url)
            with live.service.engine.blocked():
                # The engine is blocked: were events collected, the first would not come.
                async with through.stream({"handle": handle}) as events:
                    assert (await anext(events)).event == "grade"
                    live.service.engine._open.set()
                    assert [event.event async for event in events][-1] == "done"
            with live.service.engine.blocked():
                async with through.stream({"handle": handle, "temperature": 1.0}) as events:
                    await anext(events)
                # Who hangs up at the proxy hangs up at the service.
                await live.wait_for("relevance_explain_streams", 0)
        await live.assert_nothing_held()
