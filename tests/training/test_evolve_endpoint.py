"""Proposals of a language model, over HTTP to a local server that speaks the OpenAI protocol."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data import LabelledPair
from training.endpoint import EndpointError
from training.evolve import __main__ as command
from training.evolve.config import Endpoint
from training.evolve.llm import LlmProposer
from training.evolve.proposals import Findings, find_disagreements
from training.rules import RuleBook

KEY = "a-key"
GOOD = {
    "reason": "a store brand is not a brand",
    "statement": "Another brand than the one named is at most highly relevant.",
    "all_of": ["is_shop", "brand_differs"],
    "at_most": 2,
    "cases": [
        {"query": "bosch saw", "document": "Makita Saw", "grade": 2},
        {"query": "bosch saw", "document": "Bosch Saw", "grade": 2},  # does not come under the rule
        {"query": "husky saw", "document": "Makita Saw", "grade": 3},  # against its own bound
    ],
}


class ChatServer(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[str] = [json.dumps(GOOD)]
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {KEY}":
            self._answer(401, {"error": {"message": "wrong key", "type": "invalid_request_error"}})
            return
        assert self.path == "/v1/chat/completions"
        self.server.requests.append(body)
        answers = self.server.answers
        text = answers.pop(0) if len(answers) > 1 else answers[0]
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._answer(200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(KEY + "\n")
    return tmp_path / "key"


def findings() -> Findings:
    pairs = [LabelledPair("bosch drill", "Makita Drill", (0.0, 0.0, 1.0, 0.0))] * 3
    return find_disagreements(RuleBook.preset(), pairs, np.zeros(3, dtype=np.int64), frozenset())


def proposer(url: str, key_file: Path, **changes: Any) -> LlmProposer:
    endpoint = Endpoint.model_validate({"base_url": url, "model": "judge-32b", "key_file": str(key_file), **changes})
    return LlmProposer(endpoint, cases_per_proposal=5, made_in_round=4)


def unused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


def test_an_answer_becomes_a_proposal(server: ChatServer, key_file: Path) -> None:
    (proposal,) = proposer(server.url, key_file).propose(findings(), 1, 0)
    (edited,) = proposal.edits
    assert (proposal.rule_id, proposal.reason) == ("brand-differs", GOOD["reason"])
    assert (edited.statement, edited.effect.at_most) == (GOOD["statement"], 2)
    assert (edited.origin.made_by, edited.origin.made_in_round) == ("judge-32b", 4)
    assert [(case.query, case.document, case.grade) for case in proposal.cases] == [("bosch saw", "Makita Saw", 2)]
    request = server.requests[0]
    assert request["model"] == "judge-32b"
    shown = json.loads(request["messages"][1]["content"])
    assert shown["disagreements"][0] == {"query": "bosch drill", "document": "Makita Drill", "gold": 2, "scorer": 0}
    assert shown["gold_keeps_it"] == 0.0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("not json", "Invalid JSON"),
        (json.dumps({**GOOD, "all_of": ["no_such"]}), "no predicate named 'no_such'"),
        (json.dumps({**GOOD, "at_least": 1}), "exactly one of at_most and at_least"),
        (json.dumps({**GOOD, "at_most": 9}), "grades go from 0 to 3"),
        (json.dumps({**GOOD, "cases": GOOD["cases"][1:]}), "none of the cases"),
        ("", "Invalid JSON"),
    ],
)
def test_an_unusable_answer_is_asked_for_again_and_told_why(
    answer: str, told: str, server: ChatServer, key_file: Path
) -> None:
    server.answers = [answer, json.dumps(GOOD)]
    assert len(proposer(server.url, key_file).propose(findings(), 1, 0)) == 1
    assert told in server.requests[1]["messages"][-1]["content"]


def test_a_model_that_never_answers_well_gives_no_proposal(server: ChatServer, key_file: Path) -> None:
    server.answers = ["no"]
    assert proposer(server.url, key_file, max_tries=2).propose(findings(), 1, 0) == []
    asked = len([f for f in findings().ranked if f.num_wrong])
    assert len(server.requests) == 2 * asked


def test_a_refused_key_and_a_missing_one(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong").write_text("another")
    with pytest.raises(EndpointError, match=r"judge-32b: the key is wrong \(status 401.*wrong key"):
        proposer(server.url, tmp_path / "wrong").propose(findings(), 1, 0)
    with pytest.raises(EndpointError, match="none: No such file"):
        proposer(server.url, tmp_path / "none").propose(findings(), 1, 0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="no key: give a key file or set OPENAI_API_KEY"):
        LlmProposer(Endpoint(base_url=server.url, model="judge-32b"), cases_per_proposal=5, made_in_round=1).propose(
            findings(), 1, 0
        )


def write_run(folder: Path, checkpoint: Path, url: str, key_file: Path) -> list[str]:
    rows = [{"query": "bosch drill", "document": f"Makita Drill {n}", "grade": 2} for n in range(30)]
    for name in ("train", "val"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evolve.toml").write_text(
        f'base_model = "{checkpoint}"\nmining = ["train.jsonl"]\nvalidation = ["val.jsonl"]\n'
        "replay_rows = 10\nnum_rounds = 1\nproposals_per_round = 1\nresamples = 100\ninstruct = true\n"
        f'domains = ["shop"]\n[endpoint]\nbase_url = "{url}"\nmodel = "judge-32b"\nkey_file = "{key_file}"\n'
    )
    return [str(folder / "evolve.toml"), "--data-dir", str(folder), "--run", str(folder / "run")]


def test_a_whole_round_with_the_instruction_of_the_edited_book(
    server: ChatServer, key_file: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    assert command.main(write_run(tmp_path, tiny_checkpoint, server.url, key_file)) == 0
    (record,) = (json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines())
    (tried,) = record["proposals"]
    assert tried["edits"][0]["statement"] == GOOD["statement"]
    start = json.loads((tmp_path / "run" / "round-01" / "proposal-1" / "log.jsonl").read_text().splitlines()[0])
    control = json.loads((tmp_path / "run" / "round-01" / "control" / "log.jsonl").read_text().splitlines()[0])
    (given,), (plain,) = (event["config"]["sources"] for event in (start, control))
    assert given["instruction_rate"] == plain["instruction_rate"] == 1.0
    assert plain["instruction"].startswith(RuleBook.preset().rules[0].statement)


def test_an_unreachable_endpoint_stops_the_run_with_nothing_half_written(
    key_file: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = unused_url()
    assert command.main(write_run(tmp_path, tiny_checkpoint, url, key_file)) == 1
    assert f"stopped after 0 rounds: {url}, model judge-32b: cannot be reached" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
