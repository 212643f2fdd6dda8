"""Give labelled pairs an explanation by rule, from their texts and gold grades.

    python -m training.annotate IN.jsonl[.gz] OUT.jsonl[.gz] [--spec minilm-grades]
    python -m training.annotate --agreement FILE [FILE ...] --out results/criteria_agreement.json

A row is `{"query", "document", "grade", ...}`; it comes out with `explanation` added (relevance.explanation), the rest
as it was. Judged `criteria` (exactness, coverage, topicality, contextual_fit) are taken as they are; without them the
rules of `training.annotation` derive them. OUT appears complete or not at all.

With --agreement, files that have judged criteria tell how far the derived ones agree: quadratic kappa per criterion,
beside the kappa of the grade itself taken for the criterion.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tqdm import tqdm

from relevance.errors import ArtifactError
from relevance.explanation import CRITERIA, NUM_CRITERION_GRADES
from relevance.metrics import quadratic_weighted_kappa
from relevance.provenance import command_line, write_result
from relevance.spec import ScoringSpec
from training.annotation import Annotator
from training.data import DataError, open_lines
from training.matching import TermWeights

# How data sets name a criterion, where not as the explanation does.
_NAMES_IN_DATA = {"context": "contextual_fit"}


@dataclass(frozen=True, slots=True)
class GradedRow:
    """A row as it was read, with what annotation needs of it."""

    row: dict[str, Any]
    grade: int
    criteria: dict[str, int] | None

    @property
    def query(self) -> str:
        """Of the pair."""
        return str(self.row["query"])

    @property
    def document(self) -> str:
        """Of the pair."""
        return str(self.row["document"])


def _read_criteria(value: object) -> dict[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(f"criteria must be an object, got {value!r}")
    found = {name: value.get(_NAMES_IN_DATA.get(name, name)) for name in CRITERIA}
    for name, grade in found.items():
        if isinstance(grade, bool) or not isinstance(grade, int) or grade not in range(NUM_CRITERION_GRADES):
            raise ValueError(f"criteria.{_NAMES_IN_DATA.get(name, name)} must be 0 to 3, got {grade!r}")
    return cast(dict[str, int], found)


def read_rows(path: Path, num_grades: int) -> list[GradedRow]:
    """All rows of a file; DataError names file, line and field."""
    rows: list[GradedRow] = []
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                for field in ("query", "document"):
                    if not isinstance(row.get(field), str):
                        raise ValueError(f"{field} must be text, got {row.get(field)!r}")
                grade = row.get("grade")
                if isinstance(grade, bool) or not isinstance(grade, int) or grade not in range(num_grades):
                    raise ValueError(f"grade must be an integer 0 to {num_grades - 1}, got {grade!r}")
                rows.append(GradedRow(row, grade, _read_criteria(row.get("criteria"))))
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from error
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def annotate_rows(rows: Sequence[GradedRow], num_grades: int) -> Iterator[dict[str, Any]]:
    """The rows with their explanations."""
    annotator = Annotator(TermWeights(row.document for row in rows), num_grades)
    for row in rows:
        explanation = annotator.annotate(row.query, row.document, row.grade, row.criteria)
        yield {**row.row, "explanation": explanation.to_json()}


def _open_new(path: Path, is_gzip: bool) -> IO[str]:
    return cast(IO[str], gzip.open(path, "wt", encoding="utf-8")) if is_gzip else path.open("w", encoding="utf-8")


def annotate_file(source: Path, out: Path, num_grades: int) -> int:
    """Annotate a file into another; the number of rows. DataError leaves nothing behind."""
    rows = read_rows(source, num_grades)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f"{out.name}.unfinished")
    try:
        with _open_new(unfinished, out.suffix == ".gz") as target:
            for row in tqdm(annotate_rows(rows, num_grades), total=len(rows), unit="row", mininterval=5):
                target.write(json.dumps(row) + "\n")
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(rows)


def measure_agreement(path: Path, num_grades: int) -> dict[str, Any]:
    """Quadratic kappa of derived with judged criteria over the rows of a file that have them.

    Raises:
        DataError: no row has criteria.
    """
    rows = [row for row in read_rows(path, num_grades) if row.criteria is not None]
    if not rows:
        raise DataError(f"{path}: no row has judged criteria")
    annotator = Annotator(TermWeights(row.document for row in rows), num_grades)
    derived = [annotator.annotate(row.query, row.document, row.grade).criteria for row in rows]
    # A file may have another number of grades than a criterion has.
    levels = [round((NUM_CRITERION_GRADES - 1) * row.grade / (num_grades - 1)) for row in rows]
    figures: dict[str, Any] = {"num_pairs": len(rows)}
    for index, name in enumerate(CRITERIA):
        judged = [row.criteria[name] for row in rows if row.criteria is not None]
        figures[name] = {
            "kappa": quadratic_weighted_kappa([found[index] for found in derived], judged, NUM_CRITERION_GRADES),
            "kappa_of_grade": quadratic_weighted_kappa(levels, judged, NUM_CRITERION_GRADES),
        }
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Annotate a file, or measure agreement; 2 if the input cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+")
    parser.add_argument("--spec", default="minilm-grades", help="ready scoring spec: how many grades there are")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--out", type=Path, help="with --agreement: write a results file")
    args = parser.parse_args(argv)
    if not args.agreement and len(args.files) != 2:
        parser.error("give a file to read and a file to write")
    try:
        num_grades = ScoringSpec.preset(args.spec).scale.num_grades
        if not args.agreement:
            print(f"{annotate_file(args.files[0], args.files[1], num_grades)} rows annotated")
            return 0
        figures = {f"{p.parent.name}/{p.name.split('.')[0]}": measure_agreement(p, num_grades) for p in args.files}
    except (DataError, ArtifactError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.out is not None:
        command = command_line("training.annotate", sys.argv[1:] if argv is None else argv)
        write_result(args.out, command, {"figures": figures}, packages=("numpy",))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
