"""The client against the real program: what it gives, and a connection that is cut again and again."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import httpx
import pytest
from answer_first_client import (
    AsyncClient,
    Client,
    Done,
    Explained,
    Grade,
    HandleGoneError,
    RefusedError,
    Retries,
    Step,
)

from tests.api.test_program import Program, running

approx = partial(pytest.approx, rel=0, abs=1e-9)
QUERY, DOCUMENTS = "usb c cable", ["USB-C to USB-C 1 m", "HDMI cable", "wool socks"]


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running() as one:
        yield one


@contextmanager
def cutting(target: str, num_bytes: int) -> Iterator[str]:
    """A way to `target` that cuts every connection once so many bytes of answers have passed."""
    host, port = target.removeprefix("http://").split(":")

    def forward(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as server, contextlib.suppress(OSError):
            threading.Thread(target=pass_on, args=(client, server), daemon=True).start()
            left = num_bytes
            while left > 0 and (data := server.recv(min(left, 65_536))):
                client.sendall(data)
                left -= len(data)
            client.shutdown(socket.SHUT_RDWR)  # closing alone says nothing while the other thread still reads

    def pass_on(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=forward, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_scores_rankings_and_reasons(program: Program) -> None:
    with Client(program.url) as client:
        answer = client.score(QUERY, DOCUMENTS, explain=True)
        native = httpx.post(f"{program.url}/score", json={"query": QUERY, "documents": DOCUMENTS}).json()
        # The last bit of a softmax depends on how many rows there are.
        assert [result.score for result in answer.results] == approx([result["score"] for result in native["results"]])
        assert answer.model.hash == native["model"]["hash"]
        ranked = client.rerank(QUERY, DOCUMENTS)
        assert [one.result.score for one in ranked] == approx(
            sorted((one.score for one in answer.results), reverse=True)
        )
        assert client.score_pairs([(QUERY, DOCUMENTS[1])]).results[0].score == approx(answer.results[1].score)
        for result in answer.results:
            events = list(client.explain(result.handle))
            assert isinstance(events[0], Grade)
            assert isinstance(events[-1], Done)
            assert events[0].grade == result.grade
            whole = client.explanation(result.handle)
            assert whole.steps == {event.name: event.value for event in events if isinstance(event, Step)}
            assert whole.steps["verdict"] == result.grade
        handles = [result.handle for result in answer.results if result.handle is not None]
        several = client.explanations(handles)
        assert [one.grade for one in several if isinstance(one, Explained)] == [one.grade for one in answer.results]
        of_pair = list(client.explain(query=QUERY, document=DOCUMENTS[0]))
        assert of_pair[1:-1] == list(client.explain(answer.results[0].handle))[1:-1]
        with pytest.raises(RefusedError) as refused:
            client.explanation("junk")
        assert (refused.value.field, refused.value.status) == ("handle", 422)


def test_a_handle_of_another_service_is_refused(program: Program) -> None:
    with running("--explain-texts-mib", "0") as forgetful, Client(forgetful.url) as client:
        handle = client.score(QUERY, DOCUMENTS, explain=True).results[0].handle
        with pytest.raises(HandleGoneError):
            client.explanation(handle)
        assert client.explanation(handle, query=QUERY, document=DOCUMENTS[0]).steps
        with Client(program.url) as other, pytest.raises(RefusedError, match="another key"):
            other.explanation(handle)


def test_every_event_comes_once_however_often_the_connection_is_cut(program: Program) -> None:
    with Client(program.url) as client:
        handle = client.score(QUERY, DOCUMENTS, explain=True).results[0].handle
        whole = list(client.explain(handle, temperature=1.0, seed=3))
    # Less than a few events beside the headers of each answer, which are about 450 bytes.
    for num_bytes in (900, 1300, 3000):
        before = program.metric('relevance_explanation_sources_total{source="decoded"}')
        with cutting(program.url, num_bytes) as url, Client(url, retries=Retries(base_s=0.001)) as client:
            assert list(client.explain(handle, temperature=1.0, seed=3))[1:-1] == whole[1:-1]
        assert program.metric('relevance_explanation_sources_total{source="decoded"}') == before


def test_leaving_ends_the_explanation(program: Program) -> None:
    with Client(program.url) as client:
        for seed in range(20):
            events = client.explain(query=QUERY, document=DOCUMENTS[0], temperature=1.5, seed=seed)
            with closing(events):  # type: ignore[type-var]
                assert isinstance(next(events), Grade)
        while program.metric("relevance_event_streams") or program.metric("relevance_explain_streams"):
            pass
        assert program.metric("relevance_explain_holds") == 0
        assert client.score(QUERY, DOCUMENTS).coverage == 1.0


async def test_the_one_that_awaits(program: Program) -> None:
    async with AsyncClient(program.url) as client:
        answer = await client.score(QUERY, DOCUMENTS, explain=True)
        events = [event async for event in client.explain(answer.results[0].handle)]
        whole = await client.explanation(answer.results[0].handle)
        assert whole.steps == {event.name: event.value for event in events if isinstance(event, Step)}
        (best,) = await client.rerank(QUERY, DOCUMENTS, top_n=1)
        assert best.result.score == approx(max(result.score for result in answer.results))
