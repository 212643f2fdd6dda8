"""How an error becomes an HTTP response: one mapping, in the shape of the request's dialect."""

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service.assembly import new_stamp
from service.dialect import Dialect
from service.dispatch import Dispatch
from service.errors import (
    InternalError,
    MethodNotAllowedError,
    NotFoundError,
    ServiceError,
    UnauthorizedError,
)
from service.metrics import Metrics
from service.middleware import Refuse
from service.routes import DIALECT_KEY, reply_response


def handle_errors(app: FastAPI, metrics: Metrics, dispatch: Dispatch) -> Refuse:
    """Register the mapping with `app`; returns it, for what answers before any route does."""
    routing: dict[int, type[ServiceError]] = {
        NotFoundError.status: NotFoundError,
        MethodNotAllowedError.status: MethodNotAllowedError,
    }

    def respond(request: Request, error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
        metrics.count_request(error.code)
        dialect: Dialect = request.scope.get(DIALECT_KEY) or dispatch.dialect_of(request.url.path)
        response = reply_response(dialect.refuse(error, new_stamp()))
        response.headers.update(headers or {})
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        if isinstance(error, UnauthorizedError):
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    async def on_service_error(request: Request, error: Exception) -> Response:
        return respond(request, error if isinstance(error, ServiceError) else InternalError("an internal error"))

    async def on_http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException) or error.status_code not in routing:
            return respond(request, InternalError("an internal error"))
        place = f"{request.method} {request.url.path[:100]}"
        return respond(request, routing[error.status_code](f"there is no {place}"), error.headers)

    app.add_exception_handler(ServiceError, on_service_error)
    app.add_exception_handler(HTTPException, on_http_error)
    return respond
