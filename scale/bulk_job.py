"""The folder of a bulk job: what is done is what lies there.

    OUT/job.json                 of which input, model and columns this is, and the units; written first, whole
    OUT/part-0000017.parquet     the rows of unit 17, appearing under this name when it is whole
    OUT/.part-0000017.<id>       on its way there; left by a run that was killed, and removed by the next
    OUT/report.json              when all parts are there

A unit is done if its part has its name. There is no other ledger that could say something else: a run that was stopped
anywhere goes on with the units whose parts are missing, a unit that was half done is done again, and since a part is
renamed as one, every row is there exactly once.
"""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from scale.bulk_errors import BulkError
from scale.bulk_rows import column_names, is_text, kind_of, query_column
from scale.bulk_units import Unit, cut_units

JOB, REPORT = "job.json", "report.json"
RESULT_COLUMNS = ("row_id", "score", "grade", "grade_name", "distribution", "model", "error", "explanation")


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with an input: a job of another task does not go on in the same folder."""

    query: str = "query"
    document: str = "document"
    instruction: str | None = None
    """One instruction for all rows, not a column."""
    unit_rows: int = 1024
    explain: bool = False


class JobFolder:
    """The folder of one job, in any process that can see it."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        """Open a job that `begin` has written; `files` are its input's."""
        content = orjson.loads((folder / JOB).read_bytes())
        self.folder = folder
        self.header: dict[str, Any] = content["header"]
        self.files = list(files)
        self.task = Task(**self.header["task"])
        self.units = [Unit(number, *fields) for number, fields in enumerate(content["units"])]
        self._suffix = ".parquet" if kind_of(self.files[0]) == ".parquet" else ".jsonl"

    @property
    def num_rows(self) -> int:
        """Of the whole input."""
        return sum(unit.num_rows for unit in self.units)

    def part(self, unit: Unit) -> Path:
        """Where the rows of a unit lie when they are done."""
        return self.folder / f"part-{unit.number:07d}{self._suffix}"

    def is_done(self, unit: Unit) -> bool:
        """Whether its part is there."""
        return self.part(unit).exists()

    def missing(self) -> list[Unit]:
        """The units that are still to be done, in order."""
        there = {path.name for path in self.folder.glob("part-*")}
        return [unit for unit in self.units if self.part(unit).name not in there]

    def write_part(self, unit: Unit, write: Callable[[Path], None]) -> None:
        """Let `write` write the rows of a unit; they appear as one, and stay if the machine stops."""
        beside = self.folder / f".part-{unit.number:07d}.{uuid.uuid4().hex}"
        try:
            write(beside)
            _to_disk(beside)
            beside.replace(self.part(unit))
            _to_disk(self.folder)
        finally:
            beside.unlink(missing_ok=True)

    def write_report(self, report: dict[str, Any]) -> None:
        """The job is done."""
        _write_whole(self.folder / REPORT, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")


@contextmanager
def begin(folder: Path, files: Sequence[Path], task: Task, model_id: str) -> Iterator[JobFolder]:
    """The job of these files in `folder`, begun or gone on with; nobody else's meanwhile.

    Raises:
        BulkError: the input cannot be scored as asked, another job lies there, or another run works on it.
    """
    for path in files:
        _check_columns(path, task)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BulkError(f"{folder}: another run is writing it") from None
        header = {"task": asdict(task), "model": model_id, "input": [_identity(path) for path in files]}
        if not (folder / JOB).exists():
            if any(folder.glob("part-*")):
                raise BulkError(f"{folder} holds parts of no known job: name an empty folder")
            units = [[unit.file, unit.start, unit.stop, unit.first_row] for unit in _units(files, task)]
            _write_whole(folder / JOB, orjson.dumps({"header": header, "units": units}))
        job = JobFolder(folder, files)
        if job.header != header:
            raise BulkError(f"{folder} holds a job of another input, model or task: name another folder")
        if not job.units:
            raise BulkError(f"{files[0]} has no rows")
        for left in folder.glob(".part-*"):
            left.unlink(missing_ok=True)
        yield job


def _units(files: Sequence[Path], task: Task) -> Iterator[Unit]:
    number, first_row = 0, 0
    for file, path in enumerate(files):
        stop = 0
        for start, stop in cut_units(query_column(path, task.query), task.unit_rows):
            yield Unit(number, file, start, stop, first_row + start)
            number += 1
        first_row += stop


def _check_columns(path: Path, task: Task) -> None:
    names = column_names(path)
    if names is None:
        return
    for column in (task.query, task.document):
        if column not in names:
            raise BulkError(f"{path}: there is no column {column!r}; it has {', '.join(names) or 'none'}")
        if kind_of(path) == ".parquet" and not is_text(path, column):
            raise BulkError(f"{path}: column {column!r} holds no texts")
    taken = set(names) & set(RESULT_COLUMNS)
    if taken:
        raise BulkError(f"{path}: the result needs the name of the column {min(taken)!r}: rename that")


def _identity(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _write_whole(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    _to_disk(beside)
    beside.replace(path)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
