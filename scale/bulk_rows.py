"""The rows of a bulk job's input: JSON lines, CSV or Parquet, told apart by name; `.gz` behind the first two.

A file is read from front to back and never whole: a reader keeps its place, so units in ascending order cost one pass.
A Parquet file is entered at the row group that holds a unit's first row; text files are read from their start.

A row that is damaged (no JSON object, another number of fields than the header) is a row like any other, with what is
wrong with it: it does not stop the job.
"""

import csv
import gzip
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from scale.bulk_errors import BulkError

KINDS = (".jsonl", ".csv", ".parquet")
BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row of a text file."""

    content: dict[str, Any]
    damage: str | None = None


class Reader(Protocol):
    """One file, read forward."""

    def read(self, start: int, stop: int) -> "Rows":
        """Rows [start, stop)."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one file: as a table where it is Parquet, else as dicts."""

    table: pa.Table | None
    texts: list[TextRow]
    """One a row; of a table only the columns that were asked for."""


def kind_of(path: Path) -> str:
    """`.jsonl`, `.csv` or `.parquet`.

    Raises:
        BulkError: none of them.
    """
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    kind = suffixes[0] if suffixes else ""
    if kind not in KINDS or (kind == ".parquet" and path.suffix == ".gz"):
        raise BulkError(f"{path}: a name must end in .jsonl, .csv (or these with .gz) or .parquet")
    return kind


def input_files(source: Path) -> list[Path]:
    """The file, or all files of a folder in the order of their names, of one kind.

    Raises:
        BulkError: there are none, or of several kinds.
    """
    if not source.is_dir():
        if not source.is_file():
            raise BulkError(f"{source}: there is no such file")
        kind_of(source)
        return [source]
    files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    if len({kind_of(path) for path in files}) != 1:
        raise BulkError(f"{source}: a folder must hold files of rows, all of one kind")
    return files


def column_names(path: Path) -> list[str] | None:
    """Columns of a file; None of JSON lines, where each row has its own.

    Raises:
        BulkError: it cannot be read.
    """
    kind = kind_of(path)
    if kind == ".jsonl":
        return None
    try:
        if kind == ".parquet":
            return list(pq.read_schema(path).names)
        with _text(path) as stream:
            return list(csv.DictReader(stream).fieldnames or [])
    except (UnicodeDecodeError, EOFError, OSError, csv.Error, pa.ArrowException) as error:
        raise BulkError(f"{path}: {error}") from error


def text_rows(path: Path) -> Iterator[TextRow]:
    """Every row of a JSON-lines or CSV file.

    Raises:
        BulkError: the file itself cannot be read.
    """
    read = _jsonl_rows if kind_of(path) == ".jsonl" else _csv_rows
    try:
        yield from read(path)
    except (UnicodeDecodeError, EOFError, OSError, csv.Error) as error:
        raise BulkError(f"{path}: {error}") from error


def _jsonl_rows(path: Path) -> Iterator[TextRow]:
    opener = cast(Callable[..., IO[bytes]], gzip.open if path.suffix == ".gz" else open)
    with opener(path, "rb") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield TextRow({}, f"no JSON: {error}")
                continue
            yield TextRow(row) if isinstance(row, dict) else TextRow({}, "not a JSON object")


def _csv_rows(path: Path) -> Iterator[TextRow]:
    csv.field_size_limit(2**31 - 1)
    with _text(path) as stream:
        for row in cast(Iterator[dict[str | None, Any]], csv.DictReader(stream)):
            is_whole = None not in row and None not in row.values()
            content = {name: value for name, value in row.items() if name is not None}
            yield TextRow(content, None if is_whole else "not as many fields as the header")


def _text(path: Path) -> IO[str]:
    opener = cast(Callable[..., IO[str]], gzip.open if path.suffix == ".gz" else open)
    return opener(path, "rt", encoding="utf-8", newline="")


def query_column(path: Path, name: str) -> Iterator[str | None]:
    """The query of each row, None where it has none."""
    if kind_of(path) != ".parquet":
        for row in text_rows(path):
            query = row.content.get(name)
            yield query if isinstance(query, str) else None
        return
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(64 * BATCH_ROWS, columns=[name]):
                yield from batch.column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BulkError(f"{path}: {error}") from error


def open_reader(path: Path, columns: tuple[str, ...]) -> Reader:
    """A reader of any kind of file; of Parquet, `columns` are also handed over as texts."""
    return ParquetReader(path, columns) if kind_of(path) == ".parquet" else TextReader(path)


class TextReader:
    """A text file, read forward; a unit before its place makes it begin anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = text_rows(path)
        self._place = 0

    def read(self, start: int, stop: int) -> Rows:
        """Rows [start, stop)."""
        if start < self._place:
            self._rows, self._place = text_rows(self._path), 0
        for _ in range(start - self._place):
            next(self._rows)
        texts = [next(self._rows) for _ in range(stop - start)]
        self._place = stop
        return Rows(None, texts)


class ParquetReader:
    """A Parquet file, read forward in batches from the row group that holds the first row asked for."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._file = pq.ParquetFile(path)
        self._columns = columns
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = list(accumulate(sizes))
        self._batches: Iterator[Any] = iter(())
        self._place = -1
        self._rest: Any = None

    def read(self, start: int, stop: int) -> Rows:
        """Rows [start, stop)."""
        group = next(number for number, end in enumerate(self._ends) if start < end)
        group_start = self._ends[group - 1] if group else 0
        if not group_start <= self._place <= start:
            groups = range(group, len(self._ends))
            self._batches = self._file.iter_batches(BATCH_ROWS, row_groups=groups)
            self._place, self._rest = group_start, None
        self._take(start - self._place)
        table = pa.Table.from_batches(self._take(stop - start), schema=self._file.schema_arrow)
        lists = [table.column(name).to_pylist() for name in self._columns]
        return Rows(table, [TextRow(dict(zip(self._columns, row, strict=True))) for row in zip(*lists, strict=True)])

    def _take(self, number: int) -> list[Any]:
        """The next `number` rows as batches."""
        taken: list[Any] = []
        self._place += number
        while number > 0:
            if self._rest is None or not self._rest.num_rows:
                self._rest = next(self._batches)
            part = self._rest.slice(0, number)
            self._rest = self._rest.slice(part.num_rows)
            number -= part.num_rows
            taken.append(part)
        return taken


def is_text(path: Path, column: str) -> bool:
    """Whether a Parquet column holds strings (or nothing but nulls)."""
    with suppress(KeyError):
        kind = pq.read_schema(path).field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))
    return False
