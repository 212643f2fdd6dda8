"""What happens around every request, whatever its route: its id, its caller, its headers, its line in the log.

request -> RequestMiddleware (id, trail, 500 for a bug, headers, log line, trace)
        -> CORS, where it is allowed
        -> AccessMiddleware (key, allowance)
        -> routes
"""

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import Access
from service.errors import InternalError, ServiceError
from service.logs import REQUEST_FIELDS
from service.trail import TRAIL_KEY, Trail

logger = logging.getLogger("service.request")

Refuse = Callable[[Request, ServiceError], Response]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
# A page says itself how long it may be kept and what it may load; every other answer is data.
_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


@dataclass(frozen=True, slots=True)
class TraceParent:
    """Where a request belongs in its caller's trace, as W3C's `traceparent` header tells."""

    trace_id: int
    span_id: int
    flags: int


@dataclass(slots=True)
class RequestRecord:
    """One request from outside; times are those of the app's clock, in seconds."""

    method: str
    path: str
    request_id: str
    started_at: float
    parent: TraceParent | None = None
    status: int = 0
    """0: nothing was answered."""
    ended_at: float = 0.0


Observe = Callable[[RequestRecord, Trail], None]


class RequestMiddleware:
    """The outermost layer."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Callable[[], float],
        refuse: Refuse,
        new_trail: Callable[[], Trail],
        observers: Sequence[Observe],
        is_leaving: Callable[[], bool],
    ) -> None:
        """`refuse` writes an error's answer; `observers` are told of each request at its end; while `is_leaving`,
        connections are asked to close, so that callers go elsewhere."""
        self._app = app
        self._clock = clock
        self._refuse = refuse
        self._new_trail = new_trail
        self._observers = observers
        self._is_leaving = is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _record_of(scope, self._clock())
        trail = scope[TRAIL_KEY] = self._new_trail()
        fields = {"request_id": record.request_id}
        if record.parent is not None:
            fields["trace_id"] = f"{record.parent.trace_id:032x}"
        token = REQUEST_FIELDS.set(fields)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*(own := message.get("headers", ())), *self._headers(record, own)]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:
            logger.error("request_failed", exc_info=error, extra={"fields": {"path": record.path}})
            if record.status == 0:
                await self._refuse(Request(scope), InternalError("an internal error"))(scope, receive, send_on)
        finally:
            record.ended_at = self._clock()
            for observe in self._observers:
                observe(record, trail)
            REQUEST_FIELDS.reset(token)

    def _headers(self, record: RequestRecord, own: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        said = {name for name, _ in own}
        headers = [(b"x-request-id", record.request_id.encode()), *(one for one in _HEADERS if one[0] not in said)]
        if self._is_leaving():
            headers.append((b"connection", b"close"))
        return headers


def _record_of(scope: Scope, now: float) -> RequestRecord:
    """The caller's id if it is one, else a new one; the caller's trace if it tells of one."""
    request_id, parent = "", None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            request_id = value.decode("ascii")
        elif name == b"traceparent" and (match := _TRACEPARENT.match(value)):
            parent = TraceParent(*(int(part, 16) for part in match.groups()))
    return RequestRecord(scope["method"], scope["path"], request_id or uuid.uuid4().hex, now, parent)


def log_request(record: RequestRecord, trail: Trail) -> None:
    """A line for a request: never a text of it, nor its key, only the key's name."""
    fields: dict[str, object] = {
        "method": record.method,
        "path": record.path[:200],
        "status": record.status,
        "seconds": round(record.ended_at - record.started_at, 6),
        "caller": trail.caller,
    }
    if trail.stage_seconds:
        fields |= {"dialect": trail.dialect, "num_pairs": trail.num_pairs}
        fields |= {f"{stage}_ms": round(1e3 * seconds, 3) for stage, seconds in trail.stage_seconds.items()}
    logger.info("request", extra={"fields": fields})


class AccessMiddleware:
    """Lets through whom `Access` admits."""

    def __init__(self, app: ASGIApp, *, access: Access, refuse: Refuse, count: Callable[[str], None]) -> None:
        """`count` is told the name of every caller let in."""
        self._app = app
        self._access = access
        self._refuse = refuse
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            caller = self._access.admit(scope["path"], request.headers)
        except ServiceError as error:
            await self._refuse(request, error)(scope, receive, send)
            return
        trail: Trail = scope[TRAIL_KEY]
        self._count(trail.caller if caller is None else caller.name)
        if caller is not None:
            trail.caller = caller.name
            trail.charge_documents = lambda number: caller.charge("documents", number)
        await self._app(scope, receive, send)
