"""Reading a request's body, within its bounds of size and time, and knowing when its client goes away."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.errors import BodyTooLargeError, BodyTooSlowError

T = TypeVar("T")


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, given up as soon as it is too large or too slow.

    Raises:
        BodyTooLargeError: more than `max_bytes`, announced or sent.
        BodyTooSlowError: it was not there within `timeout_s`.
        ClientDisconnect: the client went away first.
    """
    announced = request.headers.get("content-length", "")
    too_large = BodyTooLargeError(f"the body is over {max_bytes} bytes")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes > max_bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlowError(f"{num_bytes} bytes of the body arrived within {timeout_s:g} seconds") from None
    return b"".join(chunks)


async def unless_client_goes(request: Request, answer: Awaitable[T]) -> T:
    """Await `answer`, cancelling it when the client disconnects; the body must have been read.

    Raises:
        ClientDisconnect: it did.
    """
    answering = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        watching.cancel()
        answering.cancel()
