"""Pages of the site that lie elsewhere in the repository, and links as they are written there.

A file in the repository links to its neighbours; the site has other addresses. Each link is resolved from the file it
stands in: to a page of the site if there is one, else to the path alone, since the site has no source files. A link
that leads nowhere stops the build, as every warning does (`make docs` is strict).
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Warnings of this logger count in a strict build.
logger = logging.getLogger("mkdocs.hooks")
ROOT = Path(__file__).parents[2]
DOCS = "docs"
# Page of the site: file of the repository.
ELSEWHERE = {
    "index.md": "README.md",
    "model-card.md": "artifacts/default/README.md",
    "python-client.md": "clients/python/README.md",
    "example-bm25.md": "examples/bm25_rerank/README.md",
    "changelog.md": "CHANGELOG.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Each link as the site needs it; code is left alone."""
    source = ELSEWHERE.get(page.file.src_uri, f"{DOCS}/{page.file.src_uri}")

    def rewrite(match: re.Match[str]) -> str:
        mark, text, target, anchor = match.groups(default="")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            logger.warning("%s: the link to %s leads nowhere", source, target)
            return match[0]
        address = _address(path, page.file.src_uri)
        return f"{mark}[{text}]({address}{anchor})" if address else f"{text} (`{path}`)"

    parts = _CODE.split(markdown)
    return "".join(part if place % 2 else _LINK.sub(rewrite, part) for place, part in enumerate(parts))


def _address(path: str, page: str) -> str | None:
    """Where `path` of the repository is in the site, seen from `page`; None if it is not there."""
    pages = {source: uri for uri, source in ELSEWHERE.items()}
    uri = pages.get(path)
    if uri is None and path.startswith(f"{DOCS}/"):
        uri = path.removeprefix(f"{DOCS}/")
    return None if uri is None else posixpath.relpath(uri, posixpath.dirname(page) or ".")
