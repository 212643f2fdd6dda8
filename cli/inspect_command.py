"""`answer-first inspect`: what an artifact is, where it came from and what its export proved."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")] = Path("artifacts/default"),
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON, nothing else.")] = False,
) -> None:
    """Show an artifact's manifest: grades, limits, sizes, parity and where it came from; its files are verified."""
    from cli.artifact_view import show  # noqa: PLC0415 - a command loads what it needs

    show(artifact, as_json)
