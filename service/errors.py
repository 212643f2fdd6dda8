"""What can go wrong in the service, and how a caller sees it.

    ServiceError                     code                 status
     ├── RequestError
     │    ├── InvalidJsonError       invalid_json         400   the body is not JSON
     │    ├── UnauthorizedError      unauthorized         401   no key, or one that is not known
     │    ├── NotFoundError          not_found            404   no such path
     │    ├── MethodNotAllowedError  method_not_allowed   405   the path exists, not with this method
     │    ├── BodyTooLargeError      body_too_large       413   the body is over the limit
     │    └── InvalidFieldsError     invalid_fields       422   JSON, but not a request: names each field at fault
     ├── OverloadedError             overloaded           429   too much work waits already; try again later
     ├── NotReadyError               not_ready            503   starting, or shutting down
     └── EngineError
          ├── EngineFailedError      engine_failed        500   the model failed on a pack this request was part of
          ├── EngineDeadError        engine_dead          503   the engine thread ended; the service must be restarted
          └── InternalError          internal             500   anything else; a bug

A class with a row above carries a stable `code` and an HTTP `status`, and a row in docs/api.md; the four without
are groups to catch. HTTP itself is spoken in `service.app` only.
"""

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
    """The body does not parse."""

    code = "invalid_json"
    status = 400


class UnauthorizedError(RequestError):
    """The request carries no key, or one that is not known."""

    code = "unauthorized"
    status = 401


class NotFoundError(RequestError):
    """No route has this path."""

    code = "not_found"
    status = 404


class MethodNotAllowedError(RequestError):
    """The path exists, not with this method."""

    code = "method_not_allowed"
    status = 405


class BodyTooLargeError(RequestError):
    """The body is over `max_body_bytes`."""

    code = "body_too_large"
    status = 413


class InvalidFieldsError(RequestError):
    """JSON that is not a valid request."""

    code = "invalid_fields"
    status = 422

    def __init__(self, field_errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in field_errors))
        self.field_errors = tuple(field_errors)


class OverloadedError(ServiceError):
    """More tokens wait than `max_waiting_tokens`; nothing of the request was admitted."""

    code = "overloaded"
    status = 429
    is_retryable = True
    retry_after_s = 1


class NotReadyError(ServiceError):
    """The service is starting or shutting down."""

    code = "not_ready"
    status = 503
    is_retryable = True
    retry_after_s = 1


class EngineError(ServiceError):
    """The service's own fault."""


class EngineFailedError(EngineError):
    """The model failed on one pack; requests without a document in it are unharmed."""

    code = "engine_failed"
    status = 500
    is_retryable = True


class EngineDeadError(EngineError):
    """The engine thread ended; nothing will be scored until a restart."""

    code = "engine_dead"
    status = 503
    is_retryable = True


class InternalError(EngineError):
    """An exception nobody expected."""

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
