"""A bulk job: every row once, whatever stops it wherever; what is wrong with a row stays with the row."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scale.bulk_errors import BulkError
from scale.bulk_job import JobFolder, Task, begin
from scale.bulk_rows import input_files
from scale.bulk_score import UnitScorer
from tests.scale.bulk_fakes import Killed, LengthModel, tiny

ROWS = [{"id": i, "query": f"query {i // 5}", "document": f'naïve "{i}",\nline' + "x" * (i % 9)} for i in range(63)]
TASK = Task(unit_rows=8)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=10)
    elif ".csv" in path.name:
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "wt", encoding="utf-8") as stream:
            stream.write("\n".join(json.dumps(row) for row in rows))
    return path


def run(source: Path, folder: Path, model: LengthModel, task: Task = TASK, only: list[int] | None = None) -> None:
    artifact = tiny()
    with begin(folder, input_files(source), task, artifact.model_id) as job:
        scorer = UnitScorer(job, artifact, model)
        for unit in job.missing() if only is None else [job.units[number] for number in only]:
            scorer.do(unit)


def read(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for part in sorted(folder.glob("part-*")):
        if part.suffix == ".parquet":
            rows += pq.read_table(part).to_pylist()
        else:
            rows += [json.loads(line) for line in part.read_text().splitlines()]
    return rows


@pytest.fixture(params=["in.jsonl", "in.jsonl.gz", "in.csv", "in.csv.gz", "in.parquet"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / request.param, ROWS)


def test_every_row_keeps_its_columns_and_gets_its_scores(source: Path, tmp_path: Path) -> None:
    model = LengthModel()
    run(source, tmp_path / "out", model)
    rows = read(tmp_path / "out")
    assert [row["row_id"] for row in rows] == list(range(len(ROWS)))
    assert [(int(row["id"]), row["query"], row["document"]) for row in rows] == [tuple(row.values()) for row in ROWS]
    for row in rows:
        high = len(row["document"]) % 7 / 10
        assert row["score"] == pytest.approx(high)
        assert row["distribution"] == pytest.approx([1 - high, 0, 0, high])
        assert row["grade"] == 3 * (high > 0.5)
        assert row["grade_name"] == tiny().manifest.spec.scale.names[row["grade"]]
        assert (row["error"], row["model"]) == (None, tiny().model_id)
        assert "explanation" not in row
    assert len(model.pairs) == len(ROWS)


def test_units_may_be_done_in_any_order(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", LengthModel())
    num_units = len(list((tmp_path / "out").glob("part-*")))
    assert num_units == 7
    run(source, tmp_path / "mixed", LengthModel(), only=[*range(num_units)][::-2])
    run(source, tmp_path / "mixed", LengthModel())
    assert read(tmp_path / "mixed") == read(tmp_path / "out")


@given(kills=st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["scoring", "writing", "renamed"])), max_size=4))
def test_whatever_stops_a_job_every_row_is_there_once_and_no_finished_unit_is_scored_again(
    kills: list[tuple[int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("job")
    source = write(tmp_path / "in.jsonl", ROWS)
    finished: list[str] = []
    for call, moment in kills:
        model = LengthModel(killed_at_call=call if moment == "scoring" else 0)
        with pytest.MonkeyPatch.context() as patch:
            if moment != "scoring":
                patch.setattr(Path, "replace", dying_replace(call, moment))
            try:
                run(source, tmp_path / "out", model)
            except Killed:
                (tmp_path / "out" / ".part-0000003.torn").write_text('{"row_id": 1')
        assert not {pair.document for pair in model.pairs} & set(finished)
        finished = [row["document"] for row in read(tmp_path / "out")]
    last = LengthModel()
    run(source, tmp_path / "out", last)
    rows = read(tmp_path / "out")
    assert [row["row_id"] for row in rows] == list(range(len(ROWS)))
    assert [row["document"] for row in rows] == [row["document"] for row in ROWS]
    assert len(last.pairs) == len(ROWS) - len(finished)
    assert not list((tmp_path / "out").glob(".part-*"))


def dying_replace(at_call: int, moment: str) -> Callable[[Path, Path], Path]:
    """A process that is killed at a rename, before or after it happens."""
    real, calls = Path.replace, []

    def replace(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == at_call and moment == "writing":
            raise Killed
        done = real(path, target)
        if len(calls) == at_call:
            raise Killed
        return done

    return replace


BAD = [
    '{"query": "q", "document": "fine"}',
    "{not json",
    "[1, 2]",
    '{"query": "q"}',
    '{"query": " ", "document": "d"}',
    '{"query": "q", "document": 5, "id": 7}',
    '{"query": "q", "document": "unrenderable"}',
    '{"query": "q", "document": "d", "score": 1}',
    "",
    '{"query": "q", "document": "fine, too"}',
]
MESSAGES = [
    None,
    "no JSON",
    "not a JSON object",
    "column 'document' holds no text",
    "the query is blank",
    "column 'document' holds no text",
    "the template has no place for it",
    "'score'",
    None,
]


def test_a_bad_row_says_what_is_wrong_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("\n".join(BAD))
    run(tmp_path / "in.jsonl", tmp_path / "out", LengthModel())
    rows = read(tmp_path / "out")
    assert [row["row_id"] for row in rows] == list(range(len(MESSAGES)))
    for row, message in zip(rows, MESSAGES, strict=True):
        assert (row["error"] is None) == (message is None)
        assert (row["score"] is None) == (message is not None)
        assert message is None or message in row["error"]
    assert rows[5]["id"] == 7


def test_a_csv_row_of_another_length_and_a_null_in_parquet_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("query,document\na,b\nc\nd,e,f\ng,h\n")
    run(tmp_path / "in.csv", tmp_path / "csv", LengthModel())
    assert [row["error"] for row in read(tmp_path / "csv")] == [None, *2 * ["not as many fields as the header"], None]
    write(tmp_path / "in.parquet", [{"query": "q", "document": None}, {"query": "q", "document": "d"}])
    run(tmp_path / "in.parquet", tmp_path / "parquet", LengthModel())
    errors = [row["error"] for row in read(tmp_path / "parquet")]
    assert errors == ["column 'document' holds no text", None]


def test_a_folder_of_files_is_one_input(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write(tmp_path / "in" / f"{number}.parquet", ROWS[20 * number : 20 * (number + 1)])
    run(tmp_path / "in", tmp_path / "out", LengthModel())
    rows = read(tmp_path / "out")
    assert [(row["row_id"], row["id"]) for row in rows] == [(i, i) for i in range(60)]
    write(tmp_path / "in" / "3.csv", ROWS)
    with pytest.raises(BulkError, match="all of one kind"):
        input_files(tmp_path / "in")


def test_another_input_task_or_model_does_not_go_on_in_a_folder(tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", ROWS), tmp_path / "out"
    run(source, out, LengthModel(), only=[0])
    for task in (Task(unit_rows=9), Task(unit_rows=8, instruction="other")):
        with pytest.raises(BulkError, match="another input, model or task"):
            run(source, out, LengthModel(), task)
    with pytest.raises(BulkError, match="another input, model or task"), begin(out, [source], TASK, "m@2"):
        pass
    write(source, ROWS[:-1])
    with pytest.raises(BulkError, match="another input, model or task"):
        run(source, out, LengthModel())


def test_two_runs_never_work_on_one_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    with (
        begin(tmp_path / "out", [source], TASK, "m"),
        pytest.raises(BulkError, match="another run"),
        begin(tmp_path / "out", [source], TASK, "m"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.txt", b"", "a name must end in"),
        ("in.csv", b"query,text\na,b\n", "no column 'document'; it has query, text"),
        ("in.csv", b"query,document,score\na,b,c\n", "'score': rename that"),
        ("in.csv", b"query,document\n\xff,b\n", r"in\.csv"),
        ("in.jsonl", b"\n", "has no rows"),
        ("in.jsonl.gz", gzip.compress(b'{"query": "q"}' * 50)[:-9], r"in\.jsonl\.gz"),
        ("in.parquet", b"no parquet", r"in\.parquet"),
    ],
)
def test_what_cannot_be_scored_at_all_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BulkError, match=message):
        run(tmp_path / name, tmp_path / "out", LengthModel())


def test_a_parquet_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", [{"query": "q", "document": 1}])
    with pytest.raises(BulkError, match="column 'document' holds no texts"):
        run(source, tmp_path / "out", LengthModel())


def test_a_job_knows_what_is_missing(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", ROWS)
    run(source, tmp_path / "out", LengthModel(), only=[1, 4])
    job = JobFolder(tmp_path / "out", [source])
    assert [unit.number for unit in job.missing()] == [0, 2, 3, 5, 6]
    assert job.num_rows == len(ROWS)
