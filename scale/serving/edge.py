"""The HTTP edge: what Serve's proxy does with a request before it chooses a replica, and with one that was lost.

    request  ->  its body is read, its key written into a header (AFFINITY_HEADER)  ->  Serve routes by that
    answer   ->  a replica's, as it is, piece by piece
             ->  none (its replica died, or there is none): 503 `not_ready` in the caller's dialect, `Retry-After: 1`

Serve calls `middlewares` in each proxy, named by an environment variable (`scale.serving.environment`). A body over
PEEK_BYTES, or slower than PEEK_S, is passed on as it comes, without a key. A caller, or a load balancer before it,
may send the header itself; its body is then not looked at.
"""

import asyncio
import logging
from collections import deque

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scale.serving.affinity import key_of
from scale.serving.environment import AFFINITY_HEADER
from service.assembly import new_stamp
from service.dialects import discover
from service.dispatch import Dispatch
from service.errors import NotReadyError
from service.routes import reply_response

logger = logging.getLogger("ray.serve.answer_first")

PEEK_BYTES = 2**20
PEEK_S = 10.0
# Serve's own pages: /-/healthz, /-/routes.
SERVE_PATHS = "/-/"
# The app writes this header on whatever it answers, so an answer without it is not a replica's.
OURS = b"x-content-type-options"
REQUEST_ID = b"x-request-id"
HEADER = AFFINITY_HEADER.encode()


class Edge:
    """The ASGI layer around Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._dispatch = Dispatch(discover())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(SERVE_PATHS):
            await self._app(scope, receive, send)
            return
        if not any(name == HEADER for name, _ in scope["headers"]):
            body = Body(receive)
            receive = body.receive
            key = await body.key(scope)
            if key is not None:
                scope["headers"] = [*scope["headers"], (HEADER, key.encode())]
        answer = Answered(send)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if answer.is_a_replicas:
                raise  # too late for another answer: the connection is closed, and the caller knows
            logger.warning("request lost: %s", type(error).__name__)
        if not answer.is_a_replicas:
            await self._refuse(scope, receive, answer, send)

    async def _refuse(self, scope: Scope, receive: Receive, answer: "Answered", send: Send) -> None:
        error = NotReadyError("no replica answered this request: the one that had it has ended, or none is ready")
        dialect = self._dispatch.dialect_of(scope["path"])
        response = reply_response(dialect.refuse(error, new_stamp()))
        response.headers["Retry-After"] = str(error.retry_after_s)
        if answer.request_id:
            response.headers["x-request-id"] = answer.request_id.decode("latin-1")
        await response(scope, receive, send)


class Body:
    """A request's body, looked at and then given on as it was."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen: deque[Message] = deque()

    async def receive(self) -> Message:
        """The next message: what was looked at, then what comes."""
        return self._seen.popleft() if self._seen else await self._receive()

    async def key(self, scope: Scope) -> str | None:
        """The key of the request, as far as its body is small and quick enough to tell."""
        if scope["method"] != "POST":
            return key_of(scope["path"], b"")
        chunks: list[bytes] = []
        num_bytes = 0
        try:
            async with asyncio.timeout(PEEK_S):
                while num_bytes <= PEEK_BYTES:
                    message = await self._receive()
                    self._seen.append(message)
                    chunks.append(message.get("body", b""))
                    num_bytes += len(chunks[-1])
                    if not message.get("more_body", False):
                        return key_of(scope["path"], b"".join(chunks))
        except TimeoutError:
            pass
        return None


class Answered:
    """Lets a replica's answer through, and keeps Serve's own back."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_a_replicas = False
        """Whether a replica has begun to answer."""
        self.request_id = b""

    async def send(self, message: Message) -> None:
        """What the proxy sends."""
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            self.request_id = next((value for name, value in headers if name.lower() == REQUEST_ID), b"")
            self.is_a_replicas = any(name.lower() == OURS for name, _ in headers)
            # Serve adds the request's id once more.
            own = [one for one in headers if one[0].lower() != REQUEST_ID]
            message["headers"] = [*own, (REQUEST_ID, self.request_id)] if self.request_id else own
        if self.is_a_replicas:
            await self._send(message)


def middlewares() -> list[Middleware]:
    """What Serve puts around its proxy."""
    return [Middleware(Edge)]
