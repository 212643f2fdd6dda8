"""What `answer-first score` does, once it is known what is asked for."""

import json
import os
import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.errors import INTERRUPTED, CliError
from cli.scored_file import Columns, FileScoring, Model
from engine.local import LocalScorer
from relevance.artifact import load_artifact
from relevance.pair import Pair
from relevance.scoring import expected_score, most_likely_grade
from service.assembly import num_threads_for

BAR_CELLS = 24


def open_scorer(artifact: Path, threads: int | None) -> LocalScorer:
    """The artifact as it is served: with as many threads, if none are asked for."""
    loaded = load_artifact(artifact)
    return LocalScorer.open(artifact, num_threads=num_threads_for(loaded, threads, 1, len(os.sched_getaffinity(0))))


def score_query(scorer: LocalScorer, pairs: list[Pair], as_json: bool) -> None:
    """One line a document, best first."""
    distributions = scorer.distributions(pairs)
    scores, grades = expected_score(distributions), most_likely_grade(distributions)
    names = scorer.artifact.manifest.spec.scale.names
    order = sorted(range(len(pairs)), key=lambda place: -scores[place])
    if as_json:
        results = [
            {
                "index": place,
                "score": float(scores[place]),
                "grade": int(grades[place]),
                "grade_name": names[grades[place]],
                "distribution": distributions[place].tolist(),
            }
            for place in order
        ]
        typer.echo(json.dumps({"results": results, "model": scorer.artifact.model_id}))
        return
    width = max(len(names[grade]) for grade in grades)
    for place in order:
        filled = round(BAR_CELLS * float(scores[place]))
        bar = "█" * filled + "·" * (BAR_CELLS - filled)
        document = " ".join(pairs[place].document.split())
        typer.echo(f"{scores[place]:.3f} {bar} {grades[place]} {names[grades[place]]:{width}}  {document}")


def score_file(source: Path, out: Path, columns: Columns, scorer: LocalScorer) -> None:
    """The rows of `source` with their scores, into `out`."""
    artifact = scorer.artifact
    scoring = FileScoring(source, out, columns, Model(scorer, artifact.manifest.spec.scale.names, artifact.model_id))
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    num_done = 0
    # A bar is for people; a log gets the last line only.
    with scoring.run() as steps, Progress(*shown, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(source.name, total=scoring.num_rows)
        try:
            for num_done in steps:
                bar.update(task, completed=num_done)
        except KeyboardInterrupt:
            left = f"stopped after {num_done} of {scoring.num_rows} rows; the same command goes on from there"
            raise CliError(left, INTERRUPTED) from None
    typer.echo(f"{out}: {num_done} rows scored by {artifact.model_id}")
