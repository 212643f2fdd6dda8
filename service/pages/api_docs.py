"""The interface, to look at and to try: GET /docs. Swagger UI comes from the package fastapi-offline, not a CDN."""

from importlib import resources
from pathlib import Path

from fastapi import APIRouter

from service.pages.assets import STATIC, WITH_INLINE_STYLES, add_files, static_files


def create_docs_router() -> APIRouter:
    """GET /docs and the files its page loads."""
    swagger = Path(str(resources.files("fastapi_offline"))) / "static"
    bundled = {f"/docs/{name}": swagger / name for name in ("swagger-ui-bundle.js", "swagger-ui.css")}
    router = APIRouter()
    own = static_files("/docs", ["docs.js", "mark.svg"])
    add_files(router, {"/docs": STATIC / "docs.html", **own, **bundled}, WITH_INLINE_STYLES)
    return router
