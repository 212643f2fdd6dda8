"""What can go wrong in the service, and how a caller sees it.

    ServiceError                     code                 status
     ├── RequestError
     │    ├── InvalidJsonError       invalid_json         400   the body is not JSON
     │    ├── UnauthorizedError      unauthorized         401   no key, or one that is not known
     │    ├── ForbiddenError         forbidden            403   a key that is known, but not for this
     │    ├── NotFoundError          not_found            404   no such path
     │    ├── MethodNotAllowedError  method_not_allowed   405   the path exists, not with this method
     │    ├── UnknownExplanationError  unknown_explanation  404  an explain id that is not ours
     │    ├── CannotResumeError      cannot_resume        409   an explanation is told otherwise than before
     │    ├── HandleGoneError        handle_gone          410   another artifact serves, or the texts are gone
     │    ├── BodyTooSlowError       body_too_slow        408   the body did not arrive within its time
     │    ├── SwapUnderWayError      swap_under_way       409   another artifact is being loaded already
     │    ├── BodyTooLargeError      body_too_large       413   the body is over the limit
     │    ├── InvalidFieldsError     invalid_fields       422   JSON, but not a request: names each field at fault
     │    └── UnusableArtifactError  unusable_artifact    422   an artifact that cannot take over; the old one serves
     ├── RateLimitedError            rate_limited         429   the key has used up what it may ask for
     ├── OverloadedError             overloaded           429   too much work waits already; try again later
     ├── TooManyExplanationsError    too_many_explanations 429  as many explanations as may be are under way
     ├── ExplanationCutError         explanation_cut      422   `max_tokens` was used up before the explanation ended
     ├── CannotExplainError          cannot_explain       422   this model has no room or no words for an explanation
     ├── DeadlineUnmeetableError     deadline_unmeetable  429   it cannot be answered in time: refused on arrival
     ├── DeadlineExceededError       deadline_exceeded    504   its deadline passed while it waited or was computed
     ├── NotReadyError               not_ready            503   starting, or shutting down
     └── EngineError
          ├── EngineFailedError      engine_failed        500   the model failed on a pack this request was part of
          ├── EngineDeadError        engine_dead          503   the engine thread ended; the service must be restarted
          └── InternalError          internal             500   anything else; a bug

A class with a row above carries a stable `code`, an HTTP `status` and whether to try again; the table of docs/api.md
is made of its docstring, so that one says what happened and what to do. The four without are groups to catch.
HTTP itself is spoken in `service.app` only.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field of a request at fault; `field` is its path, as in `documents.3`."""

    field: str
    message: str
    kind: str = "value_error"
    """The rule it breaks, in pydantic's words: `missing`, `too_short`, ..."""


class ServiceError(Exception):
    """Base of all errors a caller may see; the message is written for the caller."""

    code: ClassVar[str] = ""
    status: ClassVar[int] = 0
    is_retryable: ClassVar[bool] = False
    """Whether the same request may succeed later, here or at another replica."""
    retry_after_s: int | None = None
    """When to try again, in whole seconds, where that is known; an instance may know better."""

    field_errors: Sequence[FieldError] = ()
    """The fields at fault; empty where none is."""

    def copy(self) -> Self:
        """The same error anew: raising one instance for many callers would pile up their tracebacks on it."""
        fresh = type(self).__new__(type(self), *self.args)
        fresh.__dict__.update(self.__dict__)
        return fresh


class RequestError(ServiceError):
    """The caller's mistake: the same request will fail again."""


class InvalidJsonError(RequestError):
    """The body is no JSON: syntax, bytes that are not UTF-8, lone surrogates, NaN, nesting over 1,000 levels."""

    code = "invalid_json"
    status = 400


class UnauthorizedError(RequestError):
    """The request carries no key, or one that is not known; send `Authorization: Bearer KEY` or `X-API-Key: KEY`."""

    code = "unauthorized"
    status = 401


class ForbiddenError(RequestError):
    """The key is known, but not allowed to do this; `/admin/` asks for the right `admin`."""

    code = "forbidden"
    status = 403


class NotFoundError(RequestError):
    """No route has this path; a trailing slash makes another path."""

    code = "not_found"
    status = 404


class MethodNotAllowedError(RequestError):
    """The path exists, not with this method; `Allow` says which it takes."""

    code = "method_not_allowed"
    status = 405


class BodyTooSlowError(RequestError):
    """The body did not arrive within `body_timeout_seconds`, or not within the request's own `X-Timeout-Ms`."""

    code = "body_too_slow"
    status = 408
    is_retryable = True


class SwapUnderWayError(RequestError):
    """Another artifact is being loaded; one at a time is, beside the one that serves."""

    code = "swap_under_way"
    status = 409
    is_retryable = True
    retry_after_s: int | None = 5


class BodyTooLargeError(RequestError):
    """The body is over `max_body_bytes`, announced or sent; send fewer documents."""

    code = "body_too_large"
    status = 413


class InvalidFieldsError(RequestError):
    """A field is missing, unknown, blank, of the wrong type or over a limit; each one at fault is named."""

    code = "invalid_fields"
    status = 422

    def __init__(self, field_errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in field_errors))
        self.field_errors = tuple(field_errors)


class UnusableArtifactError(RequestError):
    """The artifact is missing, damaged, fails its self-test or breaks what callers rely on; the old one serves on."""

    code = "unusable_artifact"
    status = 422


class RateLimitedError(ServiceError):
    """The caller's key has used up its requests or documents for now; wait `Retry-After` seconds."""

    code = "rate_limited"
    status = 429
    is_retryable = True
    retry_after_s: int | None = 1


class OverloadedError(ServiceError):
    """Too many tokens wait; nothing of the request was admitted. Wait `Retry-After` seconds."""

    code = "overloaded"
    status = 429
    is_retryable = True
    retry_after_s: int | None = 1

    def __init__(self, message: str, drained_in_s: float = 1.0) -> None:
        """`drained_in_s`: when the queue will have room for it, at the rate measured."""
        super().__init__(message)
        self.retry_after_s = max(1, math.ceil(drained_in_s))


class UnknownExplanationError(RequestError):
    """The path names no explanation: its id was not signed by this service, or with another key (`handle_key`)."""

    code = "unknown_explanation"
    status = 404


class HandleGoneError(RequestError):
    """What the handle stands for is gone: another artifact serves by now, so score again; or its texts are no longer
    held, so send `query` and `document` with it."""

    code = "handle_gone"
    status = 410


class CannotResumeError(RequestError):
    """The explanation is not told as it was when its reader left, so it cannot go on there; read it from its start."""

    code = "cannot_resume"
    status = 409


class TooManyExplanationsError(ServiceError):
    """As many explanations as may be are under way (`max_explanations`); wait `Retry-After` seconds."""

    code = "too_many_explanations"
    status = 429
    is_retryable = True
    retry_after_s: int | None = 1


class ExplanationCutError(ServiceError):
    """`max_tokens` was used up before the explanation ended; the steps that were finished hold. Ask for more tokens."""

    code = "explanation_cut"
    status = 422


class CannotExplainError(ServiceError):
    """The model that serves cannot write an explanation of this pair: its vocabulary lacks the words of the format, or
    the pair leaves no positions for an answer. Cut the document shorter (`max_document_tokens`)."""

    code = "cannot_explain"
    status = 422


class DeadlineUnmeetableError(ServiceError):
    """What waits and the request itself take longer than its timeout; nothing of it was computed. Send fewer documents,
    give it more time, ask another replica, or wait `Retry-After` seconds; without that header the request alone takes
    too long."""

    code = "deadline_unmeetable"
    status = 429
    is_retryable = True

    def __init__(self, message: str, late_by_s: float | None = 1.0) -> None:
        """`late_by_s`: by how much; None if the request alone takes longer, so that waiting would not help."""
        super().__init__(message)
        self.retry_after_s = None if late_by_s is None else max(1, math.ceil(late_by_s))


class DeadlineExceededError(ServiceError):
    """The timeout of an admitted request passed; what was not computed by then never is. `partial` gives what was."""

    code = "deadline_exceeded"
    status = 504
    is_retryable = True


class NotReadyError(ServiceError):
    """The service is starting or shutting down; wait `Retry-After` seconds, or ask another replica."""

    code = "not_ready"
    status = 503
    is_retryable = True
    retry_after_s: int | None = 1


class EngineError(ServiceError):
    """The service's own fault."""


class EngineFailedError(EngineError):
    """The model failed on a pack this request was part of; other requests are unharmed. Try once more, report it."""

    code = "engine_failed"
    status = 500
    is_retryable = True


class EngineDeadError(EngineError):
    """The engine has ended and the process is on its way out; ask another replica."""

    code = "engine_dead"
    status = 503
    is_retryable = True


class InternalError(EngineError):
    """A bug; the log has the traceback under the request's id. Report it."""

    code = "internal"
    status = 500


def concrete_errors() -> Iterator[type[ServiceError]]:
    """Every class a caller may meet: those with a code, in the order of their definition."""

    def walk(parent: type[ServiceError]) -> Iterator[type[ServiceError]]:
        for child in parent.__subclasses__():
            if child.code:
                yield child
            yield from walk(child)

    return walk(ServiceError)


def example_of(error: type[ServiceError]) -> ServiceError:
    """An instance of a concrete class, to see what a dialect makes of it."""
    if issubclass(error, InvalidFieldsError):
        return error([FieldError("query", "Field required", "missing")])
    return error("an example")
