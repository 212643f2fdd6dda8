"""What can go wrong, as a caller may want to tell it apart.

AnswerFirstError
 ├── ConnectionLostError      no connection, or it broke and could not be had again
 └── StatusError              the service said no: `code`, `status`, `field`, `retry_after_s`
      ├── RefusedError        the request itself is at fault (400, 404, 409, 413, 422)
      ├── UnauthorizedError   no key, a wrong one, or one that may not do this (401, 403)
      ├── HandleGoneError     score again, or send the texts along (410)
      ├── OverloadedError     too much is asked of it, or of the key, for now (429, 503)
      ├── DeadlineError       it cannot be, or was not, answered in time (429, 504)
      └── ServiceFailedError  the service's own fault (other 5xx)
"""

from collections.abc import Mapping
from typing import Any


class AnswerFirstError(Exception):
    """Base of all errors of this package."""


class ConnectionLostError(AnswerFirstError):
    """The service could not be reached, or the connection broke too often."""


class StatusError(AnswerFirstError):
    """The service answered with an error."""

    def __init__(self, error: Mapping[str, Any], status: int, retry_after_s: float | None = None) -> None:
        """`error` is the object of that name in the answer; `status` is 0 in the middle of a stream."""
        super().__init__(str(error.get("message", "the service failed without a message")))
        self.code = str(error.get("code", ""))
        self.field: str | None = error.get("field")
        self.status = status
        self.retry_after_s = retry_after_s
        """When to try again; None where that is not known to help."""


class RefusedError(StatusError):
    """The request is at fault; the same will fail again."""


class UnauthorizedError(StatusError):
    """The key is missing, unknown, or not enough."""


class HandleGoneError(StatusError):
    """Another artifact serves by now, or the texts behind the handle are gone."""


class OverloadedError(StatusError):
    """Too much is asked for now; try again after `retry_after_s`."""


class DeadlineError(StatusError):
    """It cannot be answered in the time it was given, or was not."""


class ServiceFailedError(StatusError):
    """The service's own fault."""


_BY_CODE: Mapping[str, type[StatusError]] = {
    "deadline_unmeetable": DeadlineError,
    "deadline_exceeded": DeadlineError,
    "body_too_slow": DeadlineError,
    "handle_gone": HandleGoneError,
    "unauthorized": UnauthorizedError,
    "forbidden": UnauthorizedError,
    "rate_limited": OverloadedError,
    "overloaded": OverloadedError,
    "too_many_explanations": OverloadedError,
    "not_ready": OverloadedError,
    "engine_failed": ServiceFailedError,
    "engine_dead": ServiceFailedError,
    "internal": ServiceFailedError,
}
_BY_STATUS: Mapping[int, type[StatusError]] = {
    401: UnauthorizedError,
    403: UnauthorizedError,
    408: DeadlineError,
    410: HandleGoneError,
    429: OverloadedError,
    503: OverloadedError,
    504: DeadlineError,
}


def error_of(body: Any, status: int, retry_after: str | None = None) -> StatusError:
    """The error that an answer's body (or an `error` event's data, with status 0) tells of.

    A proxy between may answer without a body of ours; the status decides then.
    """
    told = body.get("error") if isinstance(body, Mapping) else None
    error: Mapping[str, Any] = told if isinstance(told, Mapping) else {"message": f"HTTP status {status}"}
    kind = _BY_CODE.get(str(error.get("code")))
    if kind is None:
        kind = _BY_STATUS.get(status, ServiceFailedError if status >= 500 else RefusedError)
    return kind(error, status, float(retry_after) if retry_after is not None and retry_after.isdecimal() else None)
