"""The program's limits as a socket meets them: bodies in chunks, bodies that do not come, clients that leave early."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from tests.api.test_program import Program, running

BODY = json.dumps({"query": "q", "documents": ["d"]}).encode()
CHUNKED = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running("--max-body-bytes", "5000", "--body-timeout-seconds", "0.3") as one:
        yield one


def exchange(program: Program, *parts: bytes) -> tuple[int, bytes]:
    """Status and body of what comes back when `parts` have been sent, each by itself."""
    host, port = program.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        response = HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def test_a_body_in_chunks_is_read(program: Program) -> None:
    status, _ = exchange(program, CHUNKED, *(chunk(BODY[n : n + 7]) for n in range(0, len(BODY), 7)), b"0\r\n\r\n")
    assert status == 200


def test_a_body_in_chunks_has_a_limit_and_its_end_is_not_waited_for(program: Program) -> None:
    status, body = exchange(program, CHUNKED, *[chunk(b" " * 1000)] * 6)
    assert (status, json.loads(body)["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("head", [CHUNKED, b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n"])
def test_a_body_that_does_not_come_is_given_up(program: Program, head: bytes) -> None:
    status, body = exchange(program, head, chunk(b"{") if head is CHUNKED else b"{")
    assert (status, json.loads(body)["error"]["code"]) == (408, "body_too_slow")


def test_clients_that_leave_at_any_moment_are_counted_and_leave_nothing(program: Program) -> None:
    before = program.metric('relevance_requests_total{outcome="cancelled"}')
    host, port = program.url.removeprefix("http://").split(":")
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    for sent in (head, head + BODY[:10]):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    while program.metric('relevance_requests_total{outcome="cancelled"}') < before + 2:
        assert program.process.poll() is None
    assert program.metric("relevance_waiting_documents") == 0
