"""`answer-first doctor`: what is there, what is missing, and what to do about it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cli.checks import Finding

_MARKS = {"good": ("✓", typer.colors.GREEN), "note": ("-", typer.colors.YELLOW), "bad": ("✗", typer.colors.RED)}


def doctor(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")] = Path("artifacts/default"),
    host: Annotated[str, typer.Option(help="Address that is to be listened on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port that is to be listened on.")] = 8080,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Check machine, packages and artifact, and say what to fix. Ends with status 1 if the service would not start."""
    from cli.checks import CHECKS, Place  # noqa: PLC0415 - a command loads what it needs

    place = Place(artifact, host, port)
    findings = []
    for check in CHECKS:
        finding = check(place)
        findings.append(finding)
        if not as_json:
            _show(finding)
    num_bad = sum(finding.state == "bad" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in findings], "num_bad": num_bad}))
    elif num_bad:
        typer.echo(f"\n{num_bad} to fix before `answer-first serve`.")
    else:
        typer.echo("\nReady: `answer-first serve`, then http://localhost:8080/ in a browser.")
    raise typer.Exit(1 if num_bad else 0)


def _show(finding: "Finding") -> None:
    mark, colour = _MARKS[finding.state]
    typer.echo(f"{typer.style(mark, fg=colour)} {finding.what:12} {finding.fact}")
    if finding.fix:
        typer.echo(f"  {'':12} -> {finding.fix}")
