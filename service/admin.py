"""The routes of whoever runs the service; they ask for a key with the right `admin`, always.

POST /admin/artifact {"path": DIR}      serve the artifact in DIR from now on
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field

from service.dialects.native import ErrorAnswer, ModelInfo
from service.live_model import LiveModel
from service.openapi import request_schema
from service.request_body import read_body
from service.wire import StrictBody, as_fields, parse_json, validate

MAX_ADMIN_BODY_BYTES = 10_000
ADMIN_BODY_TIMEOUT_S = 10.0

Swap = Callable[[Path], Awaitable[tuple[LiveModel, LiveModel]]]


class ArtifactOrder(StrictBody):
    """What to serve."""

    path: str = Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$", description="Folder on the server's disk.")


class ArtifactAnswer(StrictBody):
    """What serves now, and what did before."""

    model: ModelInfo
    previous: ModelInfo


def create_admin_router(swap: Swap) -> APIRouter:
    """The admin routes; `swap` returns the old and the new model."""
    router = APIRouter(prefix="/admin", tags=["operations"])

    @router.post(
        "/artifact",
        summary="Serve another artifact, without dropping a request",
        response_class=Response,
        responses={
            200: {"model": ArtifactAnswer},
            **{status: {"model": ErrorAnswer} for status in (400, 401, 403, 409, 413, 422, 429, 500, 503)},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": request_schema([ArtifactOrder])}},
            }
        },
    )
    async def artifact(request: Request) -> Response:
        """The new one is read, verified, warmed up and self-tested first; whatever fails leaves the old one serving."""
        order = validate(
            ArtifactOrder, as_fields(parse_json(await read_body(request, MAX_ADMIN_BODY_BYTES, ADMIN_BODY_TIMEOUT_S)))
        )
        previous, model = await swap(Path(order.path))
        answer = {"model": _info(model), "previous": _info(previous)}
        return Response(orjson.dumps(answer), media_type="application/json")

    return router


def _info(model: LiveModel) -> dict[str, str]:
    return {"name": model.served.name, "hash": model.served.hash}
