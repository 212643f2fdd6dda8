"""Files of rows: JSON lines, CSV and Parquet, told apart by their names; `.gz` behind the first two is understood.

A row is a dict from column to value. Reading goes row by row, so a file may be larger than memory; what is written
appears under its name only when it is whole.
"""

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

import orjson

from cli.errors import MISUSED, CliError, Missing

Row = Mapping[str, Any]

KINDS = (".jsonl", ".csv", ".parquet")
PARQUET_ROWS = 4096


def kind_of(path: Path) -> str:
    """`.jsonl`, `.csv` or `.parquet`.

    Raises:
        CliError: none of them.
    """
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    kind = suffixes[0] if suffixes else ""
    if kind not in KINDS or (kind == ".parquet" and path.suffix == ".gz"):
        raise CliError(f"{path}: a name must end in .jsonl, .csv (or these with .gz) or .parquet", MISUSED)
    return kind


def check_format(path: Path) -> None:
    """Whether a file of this name can be read or written here.

    Raises:
        CliError: it cannot.
    """
    if kind_of(path) == ".parquet":
        _parquet()


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in order.

    Raises:
        CliError: it cannot be read; the message names the row at fault.
    """
    try:
        yield from {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[kind_of(path)](path)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise CliError(f"{path}: {error}") from error


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a file of rows, all with the columns of the first; it replaces one of that name when it is whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}[kind_of(path)](beside, path, rows)
        beside.replace(path)
    except (ValueError, TypeError) as error:  # of csv, orjson and pyarrow, where rows differ or hold what they cannot
        raise CliError(f"{path}: the rows do not fit this format: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _open_text(path: Path, mode: str, name: Path | None = None) -> IO[str]:
    """`name` says whether it is packed, where `path` does not."""
    opener: Callable[..., Any] = gzip.open if (name or path).suffix == ".gz" else open
    return cast(IO[str], opener(path, mode, encoding="utf-8", newline=""))


def _read_jsonl(path: Path) -> Iterator[Row]:
    with _open_text(path, "rt") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise CliError(f"{path}: line {number}: {error}") from error
            if not isinstance(row, dict):
                raise CliError(f"{path}: line {number}: not a JSON object")
            yield row


def _write_jsonl(beside: Path, path: Path, rows: Iterable[Row]) -> None:
    with _open_text(beside, "wt", path) as stream:
        for row in rows:
            stream.write(orjson.dumps(row, default=str).decode() + "\n")


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    with _open_text(path, "rt") as stream:
        reader = csv.DictReader(stream)
        for number, row in enumerate(reader, start=1):
            if None in row or None in row.values():
                raise CliError(f"{path}: row {number} has not as many fields as the header")
            yield row


def _write_csv(beside: Path, path: Path, rows: Iterable[Row]) -> None:
    first, rest = _peek(rows)
    with _open_text(beside, "wt", path) as stream:
        writer = csv.DictWriter(stream, fieldnames=list(first))
        writer.writeheader()
        for row in rest:
            writer.writerow({name: _as_csv(value) for name, value in row.items()})


def _as_csv(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _read_parquet(path: Path) -> Iterator[Row]:
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(PARQUET_ROWS):
                yield from batch.to_pylist()
    except ValueError as error:  # pyarrow's errors are
        raise CliError(f"{path}: {error}") from error


def _write_parquet(beside: Path, _: Path, rows: Iterable[Row]) -> None:
    parquet = _parquet()
    import pyarrow  # noqa: PLC0415 - an extra

    source = iter(rows)
    with _closing_writer() as writers:
        while chunk := list(islice(source, PARQUET_ROWS)):
            schema = writers[0].schema if writers else None
            table = pyarrow.Table.from_pylist(chunk, schema=schema)
            if not writers:
                writers.append(parquet.ParquetWriter(beside, table.schema))
            writers[0].write_table(table)


@contextmanager
def _closing_writer() -> Iterator[list[Any]]:
    writers: list[Any] = []
    try:
        yield writers
    finally:
        for writer in writers:
            writer.close()


def _parquet() -> Any:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise Missing("pyarrow, which reads Parquet,", "parquet") from error
    return pyarrow.parquet


def _peek(rows: Iterable[Row]) -> tuple[Row, Iterator[Row]]:
    source = iter(rows)
    first: Sequence[Row] = list(islice(source, 1))
    return (first[0] if first else {}), chain(first, source)
