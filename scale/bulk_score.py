"""One unit from its rows to its part: read, judge, write. What a bulk job runs in each engine's process.

A row without texts, or damaged, or that the model's prompt has no place for, gets an `error` and no score; the others
of its unit are judged as if it were not there.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from relevance.artifact import Artifact, load_artifact
from relevance.pair import Pair
from relevance.scoring import expected_score, most_likely_grade
from scale.bulk_job import RESULT_COLUMNS, JobFolder, Task
from scale.bulk_model import PairModel, open_model
from scale.bulk_rows import Reader, Rows, TextRow, kind_of, open_reader
from scale.bulk_units import Unit

ARROW_TYPES = {
    "row_id": pa.int64(),
    "score": pa.float64(),
    "grade": pa.int32(),
    "grade_name": pa.string(),
    "distribution": pa.list_(pa.float64()),
    "model": pa.string(),
    "error": pa.string(),
    "explanation": pa.string(),
}


@dataclass(frozen=True, slots=True)
class UnitDone:
    """What became of a unit in this run."""

    unit: int
    rows: int
    """0 if its part was there already."""
    errors: int
    tokens: int
    seconds: float


class UnitScorer:
    """Turns units into parts; holds one engine and the readers of the input's files."""

    def __init__(self, job: JobFolder, artifact: Artifact, model: PairModel) -> None:
        self._job, self._model = job, model
        self._names, self._model_id = artifact.manifest.spec.scale.names, artifact.model_id
        self._readers: dict[int, Reader] = {}

    def do(self, unit: Unit) -> UnitDone:
        """Write the part of a unit, unless it is there."""
        if self._job.is_done(unit):
            return UnitDone(unit.number, 0, 0, 0, 0.0)
        began, tokens_before = time.monotonic(), self._model.num_tokens
        rows = self._reader(unit.file).read(unit.start, unit.stop)
        results = self._results(rows.texts, unit.first_row)
        write = _write_parquet if kind_of(self._job.files[0]) == ".parquet" else _write_jsonl
        self._job.write_part(unit, lambda path: write(path, rows, results))
        num_errors = sum(result["error"] is not None for result in results)
        num_tokens = self._model.num_tokens - tokens_before
        return UnitDone(unit.number, unit.num_rows, num_errors, num_tokens, time.monotonic() - began)

    def _reader(self, file: int) -> Reader:
        if file not in self._readers:
            task = self._job.task
            self._readers = {file: open_reader(self._job.files[file], (task.query, task.document))}
        return self._readers[file]

    def _results(self, texts: Sequence[TextRow], first_row: int) -> list[dict[str, Any]]:
        """The columns that are added to each row."""
        found = [pair_of(row, self._job.task) for row in texts]
        results = [
            {**dict.fromkeys(RESULT_COLUMNS), "row_id": first_row + place, "model": self._model_id}
            for place in range(len(texts))
        ]
        pairs: list[tuple[int, Pair]] = []
        for place, pair in enumerate(found):
            if isinstance(pair, Pair):
                pairs.append((place, pair))
            else:
                results[place]["error"] = pair
        for place, judged in self._judge(pairs):
            results[place] |= judged
        if not self._job.task.explain:
            for result in results:
                del result["explanation"]
        return results

    def _judge(self, pairs: Sequence[tuple[int, Pair]]) -> list[tuple[int, dict[str, Any]]]:
        if not pairs:
            return []
        try:
            judged = self._model.judge([pair for _, pair in pairs])
        except ValueError as error:  # one of them cannot be rendered: the others can, one by one
            if len(pairs) == 1:
                return [(pairs[0][0], {"error": str(error)})]
            return [done for pair in pairs for done in self._judge([pair])]
        scores, grades = expected_score(judged.distributions), most_likely_grade(judged.distributions)
        return [
            (
                place,
                {
                    "score": float(scores[number]),
                    "grade": int(grades[number]),
                    "grade_name": self._names[int(grades[number])],
                    "distribution": judged.distributions[number].tolist(),
                    "explanation": judged.explanations[number],
                },
            )
            for number, (place, _) in enumerate(pairs)
        ]


def pair_of(row: TextRow, task: Task) -> Pair | str:
    """The pair of a row, or what is wrong with it."""
    if row.damage is not None:
        return row.damage
    taken = RESULT_COLUMNS & row.content.keys()
    if taken:
        return f"the result needs the name of the column {min(taken)!r}"
    for column in (task.query, task.document):
        if not isinstance(row.content.get(column), str):
            return f"column {column!r} holds no text"
    if not row.content[task.query].strip():
        return "the query is blank"
    return Pair(row.content[task.query], row.content[task.document], task.instruction)


def _write_parquet(path: Path, rows: Rows, results: Sequence[dict[str, Any]]) -> None:
    table: Any = rows.table
    for name in results[0]:
        table = table.append_column(name, pa.array([result[name] for result in results], ARROW_TYPES[name]))
    pq.write_table(table, path)


def _write_jsonl(path: Path, rows: Rows, results: Sequence[dict[str, Any]]) -> None:
    with path.open("wb") as stream:
        for row, result in zip(rows.texts, results, strict=True):
            stream.write(orjson.dumps({**row.content, **result}) + b"\n")


class UnitActor:
    """A UnitScorer as Ray Data runs it: constructed once in a process, then called with numbers of units."""

    def __init__(self, folder: str, files: Sequence[str], artifact: str, num_threads: int | None) -> None:
        job = JobFolder(Path(folder), [Path(file) for file in files])
        model = open_model(Path(artifact), num_threads, job.task.explain)
        self._job, self._scorer = job, UnitScorer(job, load_artifact(Path(artifact)), model)

    def __call__(self, batch: dict[str, NDArray[np.int64]]) -> dict[str, list[Any]]:
        """Do the units of `batch["unit"]`; what became of each, as columns."""
        done = [asdict(self._scorer.do(self._job.units[int(number)])) for number in batch["unit"]]
        return {name: [one[name] for one in done] for name in done[0]}
