"""`answer-first explain`: a pair's grade and, as it is written, the model's reason for it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import MISUSED, CliError


def explain(
    query: Annotated[str, typer.Argument(help="What somebody searches for.")],
    document: Annotated[str, typer.Argument(help="The text to grade.")],
    artifact: Annotated[Path, typer.Option(help="Artifact folder.")] = Path("artifacts/default"),
    instruction: Annotated[str | None, typer.Option(help="What counts as relevant.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: the likeliest words.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed says the same.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON when it is whole, instead of text as it comes.")
    ] = False,
) -> None:
    """Grade one document and say why: the grade first, then the steps of the explanation as they are written.

    `answer-first explain "usb c cable 2 m" "USB-C to USB-C cable, 60 W"`
    """
    if not query.strip():
        raise CliError("give a query that is not blank", MISUSED)
    from cli.explaining import explain_pair  # noqa: PLC0415 - a command loads what it needs
    from relevance.pair import Pair  # noqa: PLC0415
    from service.explaining.events import Sampling  # noqa: PLC0415

    explain_pair(artifact, Pair(query, document, instruction), Sampling(temperature=temperature, seed=seed), as_json)
