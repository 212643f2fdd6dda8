"""What is asked of the service: the calls as data, and what an answer to one means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from answer_first_client.answers import Explained
from answer_first_client.errors import AnswerFirstError, ConnectionLostError, StatusError, error_of

# The service answers by its deadline; this is for the way there and back.
WAY_S = 1.0
# A stream says something at least every ten seconds.
SILENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_ms: int | None = None

    def with_timeout(self, timeout_ms: int | None) -> "Call":
        """The same, to be answered within `timeout_ms`."""
        return replace(self, timeout_ms=timeout_ms)

    def options(self, timeout_s: float) -> dict[str, Any]:
        """Arguments of httpx's `request`; `timeout_s` holds where the call has no deadline of its own."""
        headers = dict(self.headers)
        if self.timeout_ms is not None:
            headers["x-timeout-ms"] = str(self.timeout_ms)
            timeout_s = self.timeout_ms / 1000 + WAY_S
        content = {} if self.body is None else {"json": self.body}
        return {"headers": headers, "timeout": httpx.Timeout(timeout_s), **content}


def score_call(body: Mapping[str, Any], options: Mapping[str, Any]) -> Call:
    """POST /score; options that are None or false are left out."""
    return Call("POST", "/score", {**body, **{name: value for name, value in options.items() if value}})


def explain_call(accept: str, what: Mapping[str, Any], options: Mapping[str, Any]) -> Call:
    """POST /explain for what `accept` says."""
    named = {**what, **options}
    body = {name: value for name, value in named.items() if value is not None}
    return Call("POST", "/explain", body, {"accept": accept})


def read_answer(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        StatusError: it is an error.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.status_code >= 400 or body is None:
        raise error_of(body, response.status_code, response.headers.get("retry-after"))
    return body


def lost(error: httpx.TransportError) -> AnswerFirstError:
    """What a failure of the connection is to a caller."""
    return ConnectionLostError(f"{type(error).__name__}: {error}")


def read_explained(body: Mapping[str, Any]) -> list[Explained | StatusError]:
    """Of a batch, each explanation or why there is none."""
    return [error_of(one, 0) if "error" in one else Explained.read(one) for one in body["results"]]


def pair_bodies(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Pairs as a body has them."""
    return {"pairs": [{"query": query, "document": document} for query, document in pairs]}
