"""`answer-first score`: a query's documents to the terminal, or a file of pairs to a file with their scores."""

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import MISUSED, CliError

In = Annotated[Path | None, typer.Option("--file", "-f", help="Score the pairs of this .jsonl, .csv or .parquet.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where its rows go, with their scores.")]


def score(
    query: Annotated[str | None, typer.Argument(help="What somebody searches for.")] = None,
    documents: Annotated[list[str] | None, typer.Argument(help="Texts to grade.")] = None,
    artifact: Annotated[Path, typer.Option(help="Artifact folder.")] = Path("artifacts/default"),
    file: In = None,
    out: Out = None,
    query_column: Annotated[str, typer.Option(help="Column of the queries in the file.")] = "query",
    document_column: Annotated[str, typer.Option(help="Column of the documents in the file.")] = "document",
    instruction: Annotated[str | None, typer.Option(help="What counts as relevant, for all pairs.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one model run; default: as served.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Grade documents for a query, or a whole file of pairs, in this process and without a server.

    `answer-first score "usb c cable" "USB-C to USB-C 1 m" "HDMI cable"`

    `answer-first score --file pairs.jsonl --out scored.parquet`

    A file may be large: scores are kept as they come, and the same command goes on where it was stopped.
    """
    if (file is None) == (query is None):
        raise CliError("give a query with documents, or --file IN --out OUT", MISUSED)
    if (file is None) != (out is None):
        raise CliError("--file IN and --out OUT go together", MISUSED)
    if query is not None and (not documents or not query.strip()):
        raise CliError("give a query that is not blank, and documents behind it", MISUSED)
    from cli.scored_file import Columns  # noqa: PLC0415 - a command loads what it needs
    from cli.scoring import open_scorer, score_file, score_query  # noqa: PLC0415
    from relevance.pair import Pair  # noqa: PLC0415

    scorer = open_scorer(artifact, threads)
    try:
        if file is not None and out is not None:
            score_file(file, out, Columns(query_column, document_column, instruction), scorer)
        else:
            score_query(scorer, [Pair(query or "", one, instruction) for one in documents or ()], as_json)
    finally:
        scorer.close()
