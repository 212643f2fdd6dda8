"""`answer-first calibrate`: the same artifact with a temperature of one's own."""

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    pairs: Annotated[Path, typer.Argument(help="Labelled pairs: .jsonl, .csv (or these with .gz) or .parquet.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new artifact; must not exist.")],
    artifact: Annotated[Path, typer.Option(help="Artifact folder.")] = Path("artifacts/default"),
    query_column: Annotated[str, typer.Option(help="Column of the queries.")] = "query",
    document_column: Annotated[str, typer.Option(help="Column of the documents.")] = "document",
    grade_column: Annotated[str, typer.Option(help="Column of the grades, whole numbers from 0.")] = "grade",
    instruction: Annotated[str | None, typer.Option(help="What counts as relevant, for all pairs.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one model run; default: as served.")] = None,
) -> None:
    """Fit the temperature on labelled pairs of your own, and write the artifact anew with it.

    `answer-first calibrate judged.csv artifacts/ours`

    Probabilities then match how often your judges give a grade; grades stay what they were, and so does the order of
    documents but for near ties. The expected calibration error before and after is measured on queries
    the temperature was not fitted on (five parts). Last line: JSON.
    """
    from cli.recalibration import Labels, recalibrate  # noqa: PLC0415 - a command loads what it needs
    from cli.scored_file import Columns  # noqa: PLC0415
    from cli.scoring import open_scorer  # noqa: PLC0415

    scorer = open_scorer(artifact, threads)
    try:
        labels = Labels(pairs, Columns(query_column, document_column, instruction), grade_column)
        recalibrate(scorer, labels, out)
    finally:
        scorer.close()
