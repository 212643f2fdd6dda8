"""What the OpenAPI document says of the routes of explanations; tests hold it to the truth."""

from typing import Any

from service.explain_api.bodies import ANSWERS, ERROR, LATER, REQUESTS
from service.openapi import errors_of_explaining, request_schema

DESCRIPTION = """`Accept: text/event-stream`: the events `grade`, `delta`, `step`, `done` and `error`, at once.
`Accept: application/json`: the whole explanation. Anything else: 202, and where the events can be read."""

_EVENTS: dict[str, Any] = {
    "description": "Server-sent events; each has JSON data.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ERROR} for status in sorted({error.status for error in errors_of_explaining()})
}

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": request_schema(REQUESTS)}}}
}
POST_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"model": ANSWERS, **_EVENTS}, 202: {"model": LATER}, **_ERRORS}
GET_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _EVENTS,
    204: {"description": "`Last-Event-ID: end`: there is nothing more to read."},
    **_ERRORS,
}
PARAMETERS: dict[str, Any] = {
    "parameters": [
        {"name": "explain_id", "in": "path", "required": True, "schema": {"type": "string"}},
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "description": "The id of the last event that was seen: the stream goes on behind it.",
            "schema": {"type": "string"},
        },
    ]
}
