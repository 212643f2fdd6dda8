"""The code about itself: modules by their docstrings, errors by their classes."""

import ast

from benchmarks.blocks.tables import ROOT, table
from service.errors import concrete_errors

PACKAGES = ("relevance", "engine", "modeling", "service", "model_export", "training", "loadtest", "scale", "cli")
PACKAGES += ("benchmarks",)


def modules() -> str:
    """One line per module: the first sentence of its docstring."""
    rows = []
    for path in (p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))):
        if path.name != "__init__.py":
            paragraph = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            first = paragraph.replace("\n", " ").partition(". ")[0].rstrip(".:")
            rows.append([f"`{path.relative_to(ROOT)}`", first])
    return table(["module", "one line"], rows)


def errors() -> str:
    """Every error a caller may meet."""
    rows = []
    for error in concrete_errors():
        wait = "after `Retry-After`" if error.retry_after_s is not None else "yes"
        meaning = " ".join((error.__doc__ or "").split())
        rows.append([f"`{error.code}`", str(error.status), wait if error.is_retryable else "no", meaning])
    return table(["code", "status", "try again", "what happened"], rows)
