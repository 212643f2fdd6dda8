"""When the client tries again, what it tells apart, over a service made of a script."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from answer_first_client import (
    AnswerFirstError,
    AsyncClient,
    Client,
    ConnectionLostError,
    DeadlineError,
    Done,
    HandleGoneError,
    OverloadedError,
    RefusedError,
    Retries,
    ServiceFailedError,
    UnauthorizedError,
)
from answer_first_client.errors import error_of

from service.dialects.native import error_answer
from service.errors import concrete_errors, example_of
from tests.fakes import FakeClock

SCORED = {
    "results": [
        {"index": n, "scored": True, "score": score, "grade": 1, "grade_name": "related", "distribution": [0.1, 0.9]}
        | {"truncated": False, "num_tokens": 5}
        for n, score in enumerate([0.2, 0.9, 0.2])
    ]
    + [{"index": 3, "scored": False, "score": None, "grade": None}],
    "coverage": 0.75,
    "model": {"name": "m", "hash": "h", "new": 1},
    "usage": {},
    "unheard": "of",
}


def refusal(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, json=error_answer(code, "no", ()), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def scored() -> httpx.Response:
    return httpx.Response(200, json=SCORED)


class Script:
    """Answers one thing after the other, and remembers what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers: Iterator[httpx.Response | Exception] = iter(answers)
        self.asked: list[httpx.Request] = []
        self.waits: list[float] = []
        self.clock = FakeClock()

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        found = next(self.answers)
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.now += seconds

    def client(self, **retries: Any) -> Client:
        http = httpx.Client(transport=httpx.MockTransport(self.answer), base_url="http://service")
        patience = Retries(random=lambda: 0.0, clock=self.clock, **retries)
        return Client("", http=http, wait=self.wait, retries=patience)


def test_it_waits_as_long_as_it_is_told_to() -> None:
    script = Script(
        refusal(429, "overloaded", retry_after="2"),
        refusal(503, "not_ready", retry_after="1"),
        scored(),
    )
    answer = script.client().score("q", ["a", "b", "c", "d"], partial=True, priority=0)
    assert script.waits == [2.0, 1.0]
    assert json.loads(script.asked[0].content) == {"query": "q", "documents": ["a", "b", "c", "d"], "partial": True}
    assert [result.scored for result in answer.results] == [True, True, True, False]


def test_a_lost_connection_is_had_again_each_time_later() -> None:
    broken = [httpx.ConnectError("gone"), httpx.ReadError("cut"), httpx.RemoteProtocolError("cut")]
    script = Script(*broken, scored())
    script.client().score("q", ["a"])
    assert script.waits == [0.1, 0.2, 0.4]
    script = Script(*[httpx.ConnectError("gone")] * 4)
    with pytest.raises(ConnectionLostError):
        script.client().score("q", ["a"])


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (refusal(422, "invalid_fields"), RefusedError),
        (refusal(401, "unauthorized"), UnauthorizedError),
        (refusal(410, "handle_gone"), HandleGoneError),
        (refusal(429, "deadline_unmeetable"), DeadlineError),
        (refusal(504, "deadline_exceeded"), DeadlineError),
        (refusal(500, "engine_failed"), ServiceFailedError),
        (refusal(429, "rate_limited", retry_after="60"), OverloadedError),
        (httpx.Response(502, text="<html>bad gateway</html>"), ServiceFailedError),
        (httpx.Response(404, text="nginx"), RefusedError),
        (httpx.Response(200, text="no json"), RefusedError),
    ],
)
def test_what_would_fail_again_or_takes_too_long_is_not_tried(
    answer: httpx.Response, seen: type[AnswerFirstError]
) -> None:
    script = Script(answer)
    with pytest.raises(seen):
        script.client().score("q", ["a"])
    assert script.waits == []


def test_the_time_of_a_call_is_that_of_all_its_tries() -> None:
    script = Script(refusal(429, "overloaded", retry_after="1"), scored())
    script.client().score("q", ["a"], timeout_ms=1500)
    assert [request.headers["x-timeout-ms"] for request in script.asked] == ["1500", "500"]
    script = Script(refusal(429, "overloaded", retry_after="2"))
    with pytest.raises(OverloadedError) as found:
        script.client().score("q", ["a"], timeout_ms=1500)
    assert (found.value.retry_after_s, found.value.status, script.waits) == (2.0, 429, [])


def test_a_ranking_is_by_score_and_keeps_the_order_of_equals() -> None:
    ranked = Script(scored()).client().rerank("q", ["a", "b", "c", "d"])
    assert [one.document for one in ranked] == ["b", "a", "c"]
    (best,) = Script(scored()).client().rerank("q", ["a", "b", "c", "d"], top_n=1)
    assert (best.document, best.result.score) == ("b", 0.9)


def test_every_error_of_the_service_has_a_place_in_the_tree() -> None:
    for error in concrete_errors():
        example = example_of(error)
        found = error_of(error_answer(error.code, str(example), example.field_errors), error.status)
        assert found.code == error.code
        assert isinstance(found, ServiceFailedError) == (error.status == 500 or error.code == "engine_dead"), error


def event(name: str, data: object, event_id: str | None = None, retry_ms: int | None = None) -> str:
    lines = [f"event: {name}", f"data: {json.dumps(data)}"]
    lines += [f"id: {event_id}"] if event_id else []
    lines += [f"retry: {retry_ms}"] if retry_ms else []
    return "\n".join(lines) + "\n\n"


GRADE = event(
    "grade", {"grade": 1, "grade_name": "related", "explain_id": "X", "model": {"name": "m", "hash": "h"}}, "0-a"
)
DELTA = event("delta", {"step": "wants", "text": "a"}, "1-b")
DONE = event("done", {"usage": {}, "timing": {}, "resumed": False, "source": "decoded"}, "end")


def stream(*events: str) -> httpx.Response:
    return httpx.Response(200, text="".join(events), headers={"content-type": "text/event-stream"})


def test_a_stream_that_broke_goes_on_where_it_was() -> None:
    script = Script(
        httpx.ConnectError("gone"),
        stream(GRADE),
        httpx.ReadError("cut"),
        stream(DELTA, ": ping\n\n", event("news", {})),
        stream(DONE),
    )
    events = list(script.client().explain("H"))
    assert [type(one).__name__ for one in events] == ["Grade", "Delta", "Done"]
    assert [(one.method, one.url.path, one.headers.get("last-event-id")) for one in script.asked] == [
        ("POST", "/explain", None),
        ("POST", "/explain", None),
        ("GET", "/explain/X", "0-a"),
        ("GET", "/explain/X", "0-a"),
        ("GET", "/explain/X", "1-b"),
    ]


def test_without_any_progress_it_gives_up() -> None:
    script = Script(stream(GRADE), *[stream()] * 5)
    client = script.client(max_retries=2)
    with pytest.raises(ConnectionLostError):
        list(client.explain("H"))
    assert len(script.asked) == 3


def test_an_error_in_a_stream_is_raised_and_tried_again_only_where_it_says_so() -> None:
    failed = event("error", error_answer("engine_failed", "no", ()))
    with pytest.raises(ServiceFailedError):
        list(Script(stream(GRADE, failed)).client().explain("H"))
    leaving = event("error", error_answer("not_ready", "leaving", ()), retry_ms=1000)
    script = Script(stream(GRADE, leaving), stream(DELTA, DONE))
    assert isinstance(list(script.client().explain("H"))[-1], Done)
    assert script.waits == [1.0]
    script = Script(stream(GRADE), refusal(410, "handle_gone"))
    with pytest.raises(HandleGoneError):
        list(script.client().explain("H"))


async def test_the_one_that_awaits_does_the_same() -> None:
    script = Script(refusal(429, "overloaded", retry_after="2"), scored(), stream(GRADE), stream(DONE))

    async def wait(seconds: float) -> None:
        script.wait(seconds)

    http = httpx.AsyncClient(transport=httpx.MockTransport(script.answer), base_url="http://service")
    async with (
        http,
        AsyncClient("", http=http, wait=wait, retries=Retries(random=lambda: 0.0, clock=script.clock)) as client,
    ):
        assert (await client.score("q", ["a", "b", "c", "d"])).coverage == 0.75
        assert [type(one).__name__ async for one in client.explain("H")] == ["Grade", "Done"]
    assert script.waits == [2.0, 0.1]
