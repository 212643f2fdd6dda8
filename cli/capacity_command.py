"""`answer-first capacity`: how many machines a traffic needs, and what they cost."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError


def capacity(
    profile: Annotated[Path, typer.Argument(help="A profile as in scale/profiles/.")],
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Plan machines for a traffic, by simulating the service's own scheduler at the engine's measured speed.

    `answer-first capacity scale/profiles/shop.toml`
    """
    from scale.capacity import make_plan  # noqa: PLC0415 - a command loads what it needs
    from scale.capacity_errors import CapacityError  # noqa: PLC0415
    from scale.capacity_profile import load_profile  # noqa: PLC0415

    try:
        plan = make_plan(load_profile(profile)).to_json()
    except CapacityError as error:
        raise CliError(str(error)) from error
    if as_json:
        typer.echo(json.dumps(plan))
        return
    width = max(map(len, plan))
    for name, value in plan.items():
        shown = f"{value:,.4g}" if isinstance(value, float) and value < 1000 else value
        shown = f"{shown:,.0f}" if isinstance(shown, float) else f"{shown:,}" if isinstance(shown, int) else shown
        typer.echo(f"{name:{width}}  {shown}")
