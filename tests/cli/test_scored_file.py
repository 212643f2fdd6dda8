"""Scoring a file: every row once, whatever stops a run, and nothing under its name that is not whole."""

import csv
import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cli.errors import CliError
from cli.scored_file import CHUNK_ROWS, Columns, FileScoring, Model
from cli.tables import Row, read_rows, write_rows
from relevance.pair import Pair
from relevance.scoring import FloatArray

NAMES = ("bad", "fair", "good")
NUM_ROWS = 2 * CHUNK_ROWS + 7
ROWS: list[Row] = [{"id": i, "query": f"q {i % 5}", "document": f'naïve "{i}",\nnext line'} for i in range(NUM_ROWS)]


class Scorer:
    """Gives each pair what its text says, and fails when told to."""

    def __init__(self, fail_at_call: int = 0) -> None:
        self.pairs: list[Pair] = []
        self._fail_at_call, self._num_calls = fail_at_call, 0

    def distributions(self, pairs: Sequence[Pair]) -> FloatArray:
        self._num_calls += 1
        if self._num_calls == self._fail_at_call:
            raise KeyboardInterrupt
        self.pairs.extend(pairs)
        high = np.array([len(pair.document) % 7 / 10 for pair in pairs])
        return np.stack([1 - high, high / 4, 3 * high / 4], axis=1)


def run(source: Path, out: Path, scorer: Scorer, model_id: str = "m@1", columns: Columns | None = None) -> list[int]:
    with FileScoring(source, out, columns or Columns(), Model(scorer, NAMES, model_id)).run() as steps:
        return list(steps)


@pytest.fixture(params=["in.jsonl", "in.jsonl.gz", "in.csv", "in.csv.gz", "in.parquet"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    write_rows(path, ROWS)
    return path


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv.gz", "out.parquet"])
def test_every_row_keeps_its_columns_and_gets_its_scores(source: Path, tmp_path: Path, name: str) -> None:
    out, scorer = tmp_path / name, Scorer()
    assert run(source, out, scorer) == [0, CHUNK_ROWS, 2 * CHUNK_ROWS, NUM_ROWS]
    assert scorer.pairs == [Pair(row["query"], row["document"], None) for row in ROWS]
    scored = list(read_rows(out))
    assert [(int(row["id"]), row["query"], row["document"]) for row in scored] == [tuple(row.values()) for row in ROWS]
    for row in scored:
        high = len(row["document"]) % 7 / 10
        assert float(row["score"]) == pytest.approx(high / 8 + 3 * high / 4)
        assert row["grade_name"] == NAMES[int(row["grade"])]
        shares = json.loads(row["distribution"]) if isinstance(row["distribution"], str) else row["distribution"]
        assert shares == pytest.approx([1 - high, high / 4, 3 * high / 4])
        assert row["model"] == "m@1"
    assert not (tmp_path / f"{name}.partial").exists()
    assert {path.name for path in tmp_path.iterdir()} == {source.name, name}


@pytest.mark.parametrize("torn", [b"", b"[0.1, 0.", b'{"sour'])
def test_a_run_that_was_stopped_goes_on_and_scores_no_row_twice(tmp_path: Path, torn: bytes) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    first, second = Scorer(fail_at_call=2), Scorer()
    with pytest.raises(KeyboardInterrupt):
        run(source, out, first)
    assert not out.exists()
    with (tmp_path / "out.jsonl.partial").open("ab") as stream:
        stream.write(torn)
    assert run(source, out, second) == [CHUNK_ROWS, 2 * CHUNK_ROWS, NUM_ROWS]
    assert first.pairs + second.pairs == [Pair(row["query"], row["document"], None) for row in ROWS]
    whole = tmp_path / "whole.jsonl"
    run(source, whole, Scorer())
    assert out.read_bytes() == whole.read_bytes()


def test_a_run_that_was_stopped_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS[:3])
    (tmp_path / "out.jsonl.partial").write_bytes(b'{"sour')
    assert run(source, out, Scorer()) == [0, 3]


def test_another_model_file_or_column_does_not_go_on_in_what_was_begun(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    with pytest.raises(KeyboardInterrupt):
        run(source, out, Scorer(fail_at_call=2))
    with pytest.raises(CliError, match="another file, model or columns"):
        run(source, out, Scorer(), model_id="m@2")
    with pytest.raises(CliError, match="another file, model or columns"):
        run(source, out, Scorer(), columns=Columns(instruction="other"))
    write_rows(source, ROWS[:-1])
    with pytest.raises(CliError, match="another file, model or columns"):
        run(source, out, Scorer())


def test_two_runs_never_write_one_file(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    scoring = FileScoring(source, out, Columns(), Model(Scorer(), NAMES, "m@1"))
    with scoring.run() as steps:
        next(steps)
        with pytest.raises(CliError, match="another run is writing it"):
            run(source, out, Scorer())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"query": "q"}\n', "row 1: column 'document' holds no text"),
        ('{"query": "q", "document": "d"}\n{"query": " ", "document": "d"}\n', "row 2: the query is blank"),
        ('{"query": "q", "document": 5}\n', "row 1: column 'document'"),
        ('{"query": "q", "document": "d", "score": 1}\n', "row 1 has a column 'score' already"),
        ("[1]\n", "line 1: not a JSON object"),
        ('{"query": \n', "line 1: "),
        ("\n", "has no rows"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named_before_anything_is_scored(
    tmp_path: Path, content: str, message: str
) -> None:
    source, scorer = tmp_path / "in.jsonl", Scorer()
    source.write_text(content)
    with pytest.raises(CliError, match=message):
        run(source, tmp_path / "out.jsonl", scorer)
    assert scorer.pairs == []
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_is_there_is_not_overwritten_and_names_are_checked(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.csv"
    write_rows(source, ROWS[:2])
    run(source, out, Scorer())
    with pytest.raises(CliError, match="is there already"):
        run(source, out, Scorer())
    for name in ("out.txt", "out", "out.parquet.gz"):
        with pytest.raises(CliError, match="a name must end in"):
            run(source, tmp_path / name, Scorer())
    with pytest.raises(CliError, match="no such folder"):
        run(source, tmp_path / "nowhere" / "out.csv", Scorer())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", b"query,document\na\n"),
        ("in.csv", b"query,document\na,b,c\n"),
        ("in.csv", b"query,document\n\xff,b\n"),
        ("in.jsonl.gz", b"no gzip"),
        ("in.jsonl.gz", gzip.compress(b'{"query": "q"}' * 50)[:-9]),
        ("in.parquet", b"no parquet"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(CliError, match=name):
        run(source, tmp_path / "out.jsonl", Scorer())


def test_a_format_that_cannot_be_written_is_refused_before_anything_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what an import of a missing package finds
    source, scorer = tmp_path / "in.jsonl", Scorer()
    write_rows(source, ROWS[:2])
    with pytest.raises(CliError, match=r"pyarrow.* is not installed"):
        run(source, tmp_path / "out.parquet", scorer)
    assert scorer.pairs == []


def test_rows_of_different_columns_do_not_fit_a_table(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"out\.csv"):
        write_rows(tmp_path / "out.csv", [{"a": 1}, {"b": 2}])
    assert list(tmp_path.iterdir()) == []


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    with source.open("w", newline="") as stream:
        csv.writer(stream).writerows([["query", "document"], ["q", "x" * 300_000]])
    scorer = Scorer()
    run(source, tmp_path / "out.jsonl", scorer)
    assert len(scorer.pairs[0].document) == 300_000
