"""The events of an explanation, and one stream of them from its first connection to its last.

    ExplainStream.request()       POST /explain at first; once its id is known, GET it with Last-Event-ID
    ExplainStream.read(message)   a server-sent event to a typed one
    ExplainStream.lost(error)     how long to wait before the next connection, or the error

No input or output happens here: the two clients do that, each in its way.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from answer_first_client.answers import Model, StepValue
from answer_first_client.calls import Call
from answer_first_client.errors import AnswerFirstError, ConnectionLostError, error_of
from answer_first_client.retries import Patience


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade that is explained."""

    grade: int
    grade_name: str
    explain_id: str
    model: Model


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a step's text."""

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step."""

    name: str
    value: StepValue


@dataclass(frozen=True, slots=True)
class Done:
    """The explanation is complete and holds."""

    usage: Mapping[str, int]
    timing: Mapping[str, float]
    """In milliseconds."""
    resumed: bool
    source: str
    """`decoded`, `shared` or `cached`."""


Event = Grade | Delta | Step | Done


class Message(Protocol):
    """A server-sent event; httpx-sse has it."""

    @property
    def event(self) -> str:
        """Its type."""
        ...

    @property
    def data(self) -> str:
        """Its data."""
        ...

    @property
    def id(self) -> str:
        """Its id; empty where it has none."""
        ...

    @property
    def retry(self) -> int | None:
        """After how many milliseconds to connect again; None where it does not say."""
        ...


class ExplainStream:
    """One explanation, over as many connections as it takes."""

    def __init__(self, call: Call, patience: Patience) -> None:
        self._call = call
        self._patience = patience
        self._explain_id: str | None = None
        self._last_id: str | None = None
        self.is_over = False

    def request(self) -> Call:
        """What to ask next.

        Raises:
            DeadlineError: the time of the call is over.
        """
        left_ms = self._patience.left_ms()
        if self._explain_id is None:
            return self._call.with_timeout(left_ms)
        headers = {"accept": "text/event-stream"}
        if self._last_id:
            headers["last-event-id"] = self._last_id
        return Call("GET", f"/explain/{self._explain_id}", None, headers).with_timeout(left_ms)

    def read(self, message: Message) -> Event | None:
        """The event that `message` is; None for one of a kind that is not known here, or a comment.

        Raises:
            StatusError: it is an error.
        """
        if not message.data:  # httpx-sse gives a comment behind an id as an event without data
            return None
        self._patience.progressed()
        data = json.loads(message.data)
        if message.event == "error":
            self.is_over = message.retry is None
            raise error_of(data, 0, None if message.retry is None else str(math.ceil(message.retry / 1000)))
        event = _event_of(message.event, data)
        if isinstance(event, Grade):
            self._explain_id = event.explain_id
        self.is_over = isinstance(event, Done)
        self._last_id = message.id or self._last_id
        return event

    def lost(self, error: AnswerFirstError | None = None) -> float:
        """The connection ended, with `error` or in silence: how long to wait before the next one, in seconds.

        Raises:
            AnswerFirstError: there is to be none.
        """
        if self.is_over and error is not None:
            raise error
        return self._patience.wait_s(error or ConnectionLostError("the stream ended before the explanation had"))


def _event_of(kind: str, data: Mapping[str, Any]) -> Event | None:
    if kind == "grade":
        return Grade(data["grade"], data["grade_name"], data["explain_id"], Model.read(data["model"]))
    if kind == "delta":
        return Delta(data["step"], data["text"])
    if kind == "step":
        return Step(data["step"], data["value"])
    if kind == "done":
        return Done(data["usage"], data["timing"], data["resumed"], data["source"])
    return None
