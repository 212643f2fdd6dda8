"""`answer-first score-dataset`: a corpus of pairs, on all cores of this machine or on a Ray cluster."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.errors import INTERRUPTED, CliError, Missing


def score_dataset(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .parquet, .jsonl or .csv, or a folder of them.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the parts.")],
    artifact: Annotated[Path, typer.Option(help="Artifact folder.")] = Path("artifacts/default"),
    query_column: Annotated[str, typer.Option(help="Column of the queries.")] = "query",
    document_column: Annotated[str, typer.Option(help="Column of the documents.")] = "document",
    instruction: Annotated[str | None, typer.Option(help="What counts as relevant, for all pairs.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Write each grade's explanation, too.")] = False,
    unit_rows: Annotated[int, typer.Option(min=1, help="Rows that are scored and written together, about.")] = 1024,
    actors: Annotated[int | None, typer.Option(min=1, help="Engines; default: as many as fit the cores.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one engine; default: as served.")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's address; default: this machine alone.")] = None,
    price_per_hour: Annotated[float, typer.Option(min=0.0, help="Of all machines together: for the cost.")] = 0.0,
) -> None:
    """Score a corpus on Ray Data: every row once, however often it is stopped.

    `answer-first score-dataset pairs.parquet scored/ --price-per-hour 0.40`

    The same command goes on where it was stopped. Sort the input by query: its documents then share a prefix.
    The last line is the report as JSON; `row_id` in the parts is the row's number in the input.
    """
    try:
        from scale.bulk import BulkRequest, Engines, score_dataset, with_cost  # noqa: PLC0415 - an extra
        from scale.bulk import Progress as Done  # noqa: PLC0415
        from scale.bulk_errors import BulkError  # noqa: PLC0415
        from scale.bulk_job import Task  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Missing(f"what bulk scoring runs on ({error.name})", "scale") from error

    task = Task(query_column, document_column, instruction, unit_rows, explain)
    request = BulkRequest(source, out, artifact, task, Engines(address, actors, threads))
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # A bar is for people; a log gets the last line only.
    with Progress(*shown, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        row_bar = bar.add_task(source.name, total=None)

        def on_progress(done: Done) -> None:
            bar.update(row_bar, completed=done.rows_done, total=done.rows)

        try:
            report = score_dataset(request, on_progress)
        except BulkError as error:
            raise CliError(str(error)) from error
        except KeyboardInterrupt:
            raise CliError("stopped; the same command goes on from there", INTERRUPTED) from None
    typer.echo(json.dumps(with_cost(report, price_per_hour)))
