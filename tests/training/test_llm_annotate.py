"""The language-model annotator against a local server that speaks the OpenAI protocol."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relevance.explanation import Explanation, check
from training.annotate import GradedRow
from training.llm_annotate import main, read_answer

QUERY, DOCUMENT = "usb c cable 2 m", "Strong USB-C to USB-C cable, braided. 60 W. Black"
ROW = {"query": QUERY, "document": DOCUMENT, "grade": 2}
GOOD = {
    "wants": "a usb c cable of 2 m",
    "exactness": 2,
    "coverage": 2,
    "topicality": 3,
    "context": 2,
    "evidence": ["60 W.", "USB-C to USB-C cable"],
    "missing": ["2 m"],
}
UNGROUNDED = {**GOOD, "evidence": ["a cable of 2 m"]}


class ChatServer(ThreadingHTTPServer):
    """Answers chat completions with what `reply` makes of the messages: a text, or a status."""

    daemon_threads = True

    def __init__(self, reply: Callable[[list[dict[str, str]]], object]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.seen: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append({**body, "key": self.headers["authorization"], "path": self.path})
        found = self.server.reply(body["messages"])
        status = found if isinstance(found, int) else 200
        message = {"role": "assistant", "content": found if isinstance(found, str) else json.dumps(found)}
        answer: dict[str, object] = (
            {"error": {"message": "no", "type": "t"}}
            if isinstance(found, int)
            else {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        )
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(reply: Callable[[list[dict[str, str]]], object]) -> Iterator[ChatServer]:
    server = ChatServer(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def call(source: Path, out: Path, url: str, *more: str) -> int:
    key = source.with_name("key")
    key.write_text("secret\n")
    given = [str(source), str(out), "--model", "m", "--base-url", url, "--key-file", str(key), "--max-retries", "0"]
    return main([*given, *more])


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbered(count: int) -> list[dict[str, Any]]:
    return [{**ROW, "document": f"{DOCUMENT} {number}", "id": number} for number in range(count)]


def test_every_row_gets_an_explanation_that_holds(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", numbered(20)), tmp_path / "out.jsonl"
    with serving(lambda _: GOOD) as server:
        assert call(source, out, server.url, "--concurrency", "4") == 0
    rows = read(out)
    assert sorted(row["id"] for row in rows) == list(range(20))
    for row in rows:
        explanation = Explanation.from_json(row["explanation"])
        assert check(explanation, row["query"], row["document"], 2) == []
        assert explanation.evidence == ("USB-C to USB-C cable", "60 W.")  # in the document's order
        assert row["explained_by"] == "m"
    shown = json.loads(server.seen[0]["messages"][1]["content"])
    assert (shown["query"], shown["grade"]) == (QUERY, "2 highly relevant")
    assert {(seen["key"], seen["path"], seen["model"]) for seen in server.seen} == {
        ("Bearer secret", "/v1/chat/completions", "m")
    }
    assert "secret" not in out.read_text()


def test_several_requests_are_under_way_at_a_time(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def reply(_: list[dict[str, str]]) -> object:
        together.wait(timeout=20)  # nobody is answered before three have asked
        return GOOD

    source, out = write(tmp_path / "in.jsonl", numbered(3)), tmp_path / "out.jsonl"
    with serving(reply) as server:
        assert call(source, out, server.url, "--concurrency", "3") == 0


def test_an_answer_that_does_not_hold_is_asked_for_again_with_the_reason(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", [ROW]), tmp_path / "out.jsonl"
    answers = iter([UNGROUNDED, "no JSON", {"wants": "x"}, f"Here it is: {json.dumps(GOOD)} !"])
    with serving(lambda _: next(answers)) as server:
        assert call(source, out, server.url, "--max-tries", "4") == 0
    told = [message["content"] for message in server.seen[-1]["messages"] if message["role"] == "user"][1:]
    assert "evidence: 'a cable of 2 m' is not in the document" in told[0]
    assert "not a JSON object" in told[1]
    assert "must be an object with wants" in told[2]
    assert len(read(out)) == 1


def test_a_row_without_a_good_answer_is_left_out_and_tried_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "in.jsonl", numbered(3)), tmp_path / "out.jsonl"
    with serving(lambda messages: UNGROUNDED if "Black 1" in messages[1]["content"] else GOOD) as server:
        assert call(source, out, server.url, "--max-tries", "2") == 1
        assert len(server.seen) == 4
    assert sorted(row["id"] for row in read(out)) == [0, 2]
    assert json.loads(capsys.readouterr().out) == {"rows": 3, "asked_now": 3, "without_explanation": 1}
    with serving(lambda _: GOOD) as server:
        assert call(source, out, server.url) == 0
        assert len(server.seen) == 1
    assert [row["id"] for row in read(out)][-1] == 1


def test_a_run_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    rows = [*numbered(3), numbered(3)[2]]  # the last one twice
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    with serving(lambda _: GOOD) as server:
        assert call(source, out, server.url, "--concurrency", "1") == 0
        whole = out.read_bytes()
        lines = whole.splitlines(keepends=True)
        out.write_bytes(b"".join(lines[:2]) + lines[2][:40])  # the process died while it wrote
        server.seen.clear()
        assert call(source, out, server.url, "--concurrency", "1") == 0
        assert len(server.seen) == 2
        assert out.read_bytes() == whole
        server.seen.clear()
        out.write_bytes(whole + b'{"query": "cut sho')
        assert call(source, out, server.url) == 0
        assert server.seen == []
        assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "the key is wrong"), (404, "no such address or model"), (500, "refused (status 500")],
)
def test_an_endpoint_that_refuses_stops_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, message: str
) -> None:
    source, out = write(tmp_path / "in.jsonl", numbered(30)), tmp_path / "out.jsonl"
    answers = iter([GOOD, GOOD])
    with serving(lambda _: next(answers, status)) as server:
        assert call(source, out, server.url, "--concurrency", "2") == 2
        assert len(server.seen) <= 6
        assert f"error: {server.url}/, model m: {message}" in capsys.readouterr().err
    assert len(read(out)) == 2  # what was answered is kept


def test_an_endpoint_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _: GOOD) as server:
        url = server.url
    source, out = write(tmp_path / "in.jsonl", [ROW]), tmp_path / "out.jsonl"
    assert call(source, out, url) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert out.read_bytes() == b""


def test_an_endpoint_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released = threading.Event()

    def reply(_: list[dict[str, str]]) -> object:
        released.wait(timeout=20)
        return 500

    source, out = write(tmp_path / "in.jsonl", [ROW]), tmp_path / "out.jsonl"
    with serving(reply) as server:
        assert call(source, out, server.url, "--timeout-s", "0.2") == 2
        released.set()
    assert "no answer in time" in capsys.readouterr().err


def test_bad_input_is_named_before_anybody_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    with serving(lambda _: GOOD) as server:
        assert call(write(tmp_path / "in.jsonl", [ROW, {**ROW, "grade": 9}]), out, server.url) == 2
        assert "line 2: grade must be" in capsys.readouterr().err
        assert not out.exists()
        out.write_text('{"other": 1}\n')
        assert call(write(tmp_path / "in.jsonl", [ROW]), out, server.url) == 2
        assert "line 1: not written by this command" in capsys.readouterr().err
        assert out.read_text() == '{"other": 1}\n'
        assert main([str(tmp_path / "in.jsonl"), str(out), "--model", "m", "--key-file", str(tmp_path / "none")]) == 2
        assert "none: No such file" in capsys.readouterr().err
        assert server.seen == []


def test_judged_criteria_are_shown_and_kept() -> None:
    judged = {"exactness": 0, "coverage": 1, "topicality": 1, "context": 0}
    assert read_answer(json.dumps(GOOD), GradedRow(ROW, 2, judged)).criteria == (0, 1, 1, 0)
