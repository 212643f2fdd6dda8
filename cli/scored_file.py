"""Scoring a file: every row once, however often it is stopped.

    OUT.partial     first line: of which file and model these are; then a line per scored row, in order, added in chunks
    OUT             the input's rows with their scores, written when all are there; OUT.partial is gone then

A run that finds OUT.partial goes on behind its last whole line, if file and model are the same; else it refuses. Two
runs never write one: the file is locked.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Protocol

import orjson

from cli.errors import CliError
from cli.tables import Row, check_format, read_rows, write_rows
from relevance.pair import Pair
from relevance.scoring import FloatArray, expected_score, most_likely_grade

CHUNK_ROWS = 256
PARTIAL = ".partial"


class Distributes(Protocol):
    """What scores: `engine.local.LocalScorer`, or anything like it."""

    def distributions(self, pairs: Sequence[Pair]) -> FloatArray:
        """Grade distributions [N, K] in the order of `pairs`."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold the texts."""

    query: str = "query"
    document: str = "document"
    instruction: str | None = None
    """One instruction for all rows, not a column."""

    def pair(self, row: Row, number: int) -> Pair:
        """The pair of row `number`, from 1.

        Raises:
            CliError: a text is missing.
        """
        for name in (self.query, self.document):
            if not isinstance(row.get(name), str):
                found = ", ".join(map(str, row)) or "nothing"
                raise CliError(f"row {number}: column {name!r} holds no text; the row has {found}")
        if not row[self.query].strip():
            raise CliError(f"row {number}: the query is blank")
        return Pair(row[self.query], row[self.document], self.instruction)


@dataclass(frozen=True, slots=True)
class Model:
    """What scores, and as whom it signs."""

    scorer: Distributes
    grade_names: Sequence[str]
    model_id: str


class FileScoring:
    """One file on its way to another."""

    def __init__(self, source: Path, out: Path, columns: Columns, model: Model) -> None:
        """Read the whole input once, so that a row that cannot be scored is known before the first hour.

        Raises:
            CliError: it cannot be read, a row has no texts, or `out` is there already.
        """
        for path in (source, out):
            check_format(path)
        if out.exists():
            raise CliError(f"{out} is there already: remove it, or name another")
        if not out.parent.is_dir():
            raise CliError(f"{out.parent}: there is no such folder")
        self._source, self._out, self._columns, self._model = source, out, columns, model
        self.num_rows = 0
        for number, row in enumerate(read_rows(source), start=1):
            columns.pair(row, number)
            clash = {"score", "grade", "grade_name", "distribution", "model"} & row.keys()
            if clash:
                raise CliError(f"row {number} has a column {sorted(clash)[0]!r} already, which the result would need")
            self.num_rows = number
        if not self.num_rows:
            raise CliError(f"{source} has no rows")
        self._partial = out.with_name(out.name + PARTIAL)

    @contextmanager
    def run(self) -> Iterator[Iterator[int]]:
        """Rows done so far, chunk after chunk, beginning with those that an earlier run did; then `out` is written.

        Raises:
            CliError: `out.partial` belongs to another input or model, or another run writes it.
        """
        with self._partial.open("a+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CliError(f"{self._partial}: another run is writing it") from None
            yield self._steps(stream, self._resume(stream))

    def _header(self) -> bytes:
        digest = hashlib.sha256(self._source.read_bytes()).hexdigest()
        columns = [self._columns.query, self._columns.document, self._columns.instruction]
        return orjson.dumps({"source": digest, "model": self._model.model_id, "columns": columns}) + b"\n"

    def _resume(self, stream: IO[bytes]) -> int:
        """Rows that are done; what a broken run left of a line is cut off."""
        stream.seek(0)
        header = self._header()
        first = stream.readline()
        if not first.endswith(b"\n"):  # nothing, or a run that was stopped in its first line
            stream.truncate(0)
            stream.write(header)
            stream.flush()
            return 0
        if first != header:
            raise CliError(f"{self._partial} is of another file, model or columns: remove it to begin anew")
        whole, num_done = stream.tell(), 0
        for line in stream:
            if not line.endswith(b"\n"):
                break
            whole, num_done = whole + len(line), num_done + 1
        stream.truncate(whole)
        return num_done

    def _steps(self, stream: IO[bytes], num_done: int) -> Iterator[int]:
        yield num_done
        rows = islice(read_rows(self._source), num_done, None)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            pairs = [self._columns.pair(row, num_done + place) for place, row in enumerate(chunk, start=1)]
            distributions = self._model.scorer.distributions(pairs)
            stream.write(b"".join(orjson.dumps(one) + b"\n" for one in distributions.tolist()))
            stream.flush()
            os.fsync(stream.fileno())
            num_done += len(chunk)
            yield num_done
        write_rows(self._out, self._joined(stream))
        self._partial.unlink()

    def _joined(self, stream: IO[bytes]) -> Iterator[Row]:
        stream.seek(0)
        stream.readline()
        for row, line in zip(read_rows(self._source), stream, strict=True):
            yield {**row, **self._scores(orjson.loads(line))}

    def _scores(self, distribution: list[float]) -> Row:
        import numpy as np  # noqa: PLC0415 - kept out of `--help`

        shares = np.array([distribution])
        grade = int(most_likely_grade(shares)[0])
        return {
            "score": float(expected_score(shares)[0]),
            "grade": grade,
            "grade_name": self._model.grade_names[grade],
            "distribution": distribution,
            "model": self._model.model_id,
        }
