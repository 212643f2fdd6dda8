"""The client for code that waits. `answer_first_client.aio` has the same for code that awaits."""

import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_sse import EventSource

from answer_first_client.answers import Explained, Ranked, ScoreAnswer, rank
from answer_first_client.calls import (
    SILENCE_S,
    Call,
    explain_call,
    lost,
    pair_bodies,
    read_answer,
    read_explained,
    score_call,
)
from answer_first_client.errors import AnswerFirstError, StatusError, error_of
from answer_first_client.events import Event, ExplainStream
from answer_first_client.retries import Patience, Retries

EVENTS, JSON = "text/event-stream", "application/json"


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


class Client:
    """A connection to one service. Use it as a context, or `close` it."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
        wait: Callable[[float], None] = _wait,
    ) -> None:
        """Connect to nothing yet.

        Args:
            base_url: where the service is, as in http://localhost:8080.
            api_key: sent with every request.
            timeout_s: how long an answer may take where a call names no `timeout_ms`.
            retries: how patient it is.
            http: used instead of one of its own, and left open; it brings its own address and headers.
            wait: waits between two tries.
        """
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._http = http or httpx.Client(base_url=base_url, headers=headers)
        self._is_own = http is None
        self._timeout_s = timeout_s
        self._retries = retries or Retries()
        self._wait = wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        if self._is_own:
            self._http.close()

    def score(
        self, query: str, documents: Sequence[str], *, timeout_ms: int | None = None, **options: Any
    ) -> ScoreAnswer:
        """Grades of `documents` for `query`, in their order.

        `options` are those of the service: `instruction`, `priority`, `partial`, `explain` (give each result a handle).

        Raises:
            StatusError: the service refused, by its subclasses.
            ConnectionLostError: it could not be reached.
        """
        call = score_call({"query": query, "documents": list(documents)}, options)
        return ScoreAnswer.read(self._ask(call, timeout_ms))

    def score_pairs(
        self, pairs: Sequence[tuple[str, str]], *, timeout_ms: int | None = None, **options: Any
    ) -> ScoreAnswer:
        """Grades of (query, document) pairs, as `score`."""
        return ScoreAnswer.read(self._ask(score_call(pair_bodies(pairs), options), timeout_ms))

    def rerank(self, query: str, documents: Sequence[str], *, top_n: int | None = None, **options: Any) -> list[Ranked]:
        """`documents`, best first; `options` as of `score`."""
        return rank(documents, self.score(query, documents, **options), top_n)

    def explain(
        self,
        handle: str | None = None,
        *,
        query: str | None = None,
        document: str | None = None,
        timeout_ms: int | None = None,
        **options: Any,
    ) -> Iterator[Event]:
        """The events of why a grade was given, as they come; of a handle, or of a pair.

        A connection that breaks is had again and gone on with, so every event comes once. Closing the iterator ends the
        explanation. `options`: `instruction`, `max_tokens`, `temperature`, `seed`.

        Raises:
            StatusError, ConnectionLostError: as of `score`, at any event.
        """
        call = explain_call(EVENTS, {"handle": handle, "query": query, "document": document}, options)
        stream = ExplainStream(call, Patience(self._retries, timeout_ms))
        while not stream.is_over:
            try:
                yield from self._events(stream)
                error = None
            except httpx.TransportError as broken:
                error = lost(broken)
            except StatusError as refused:
                error = refused
            if not stream.is_over or error is not None:
                self._wait(stream.lost(error))

    def explanation(self, handle: str | None = None, *, timeout_ms: int | None = None, **options: Any) -> Explained:
        """A whole explanation; arguments and errors as of `explain`."""
        return Explained.read(self._ask(explain_call(JSON, {"handle": handle}, options), timeout_ms))

    def explanations(
        self, handles: Sequence[str], *, timeout_ms: int | None = None, **options: Any
    ) -> list[Explained | StatusError]:
        """Those of several handles; what failed alone is an error in its place."""
        return read_explained(self._ask(explain_call(JSON, {"handles": list(handles)}, options), timeout_ms))

    def _events(self, stream: ExplainStream) -> Iterator[Event]:
        call = stream.request()
        options = call.options(self._timeout_s)
        options["timeout"] = httpx.Timeout(SILENCE_S)
        with self._http.stream(call.method, call.path, **options) as response:
            if response.status_code != 200:
                response.read()
                read_answer(response)
                raise error_of(None, response.status_code)
            for message in EventSource(response).iter_sse():
                event = stream.read(message)
                if event is not None:
                    yield event
                if stream.is_over:
                    return

    def _ask(self, call: Call, timeout_ms: int | None) -> Any:
        patience = Patience(self._retries, timeout_ms)
        while True:
            timed = call.with_timeout(patience.left_ms())
            try:
                return read_answer(self._http.request(call.method, call.path, **timed.options(self._timeout_s)))
            except httpx.TransportError as broken:
                error: AnswerFirstError = lost(broken)
            except StatusError as refused:
                error = refused
            self._wait(patience.wait_s(error))
