"""Files of the pages, and the headers that keep a page to itself: nothing is loaded from, or sent to, another host.

A file is known by its name in the package's `static/` folder; what is not there has no route, so no path is ever put
together from what a caller sent.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

STATIC = Path(__file__).parent / "static"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{styles}; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STRICT = _POLICY.format(styles="")
# Swagger UI writes style attributes.
WITH_INLINE_STYLES = _POLICY.format(styles=" 'unsafe-inline'")


def add_files(router: APIRouter, files: Mapping[str, Path], policy: str) -> None:
    """A GET route for each file.

    Args:
        router: where the routes go; none of them is in the OpenAPI document.
        files: the file of each path.
        policy: the content security policy they are served under.
    """
    for path, file in files.items():
        router.add_api_route(path, _endpoint(file, policy), include_in_schema=False, name=f"page {path}")


def static_files(prefix: str, names: Iterable[str]) -> dict[str, Path]:
    """The file of each path `prefix/NAME`."""
    return {f"{prefix}/{name}": STATIC / name for name in names}


def _endpoint(file: Path, policy: str) -> Callable[[], Awaitable[Response]]:
    headers = {"content-security-policy": policy, "cache-control": "no-cache"}

    async def page() -> Response:
        return FileResponse(file, media_type=_TYPES[file.suffix], headers=headers)

    return page
