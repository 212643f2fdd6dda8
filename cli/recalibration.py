"""A new temperature for an artifact, from labelled pairs; its files are copied, its manifest is new.

The temperature belongs to the manifest (relevance/spec.py), not to the graph, so nothing is exported again: the graph's
logits, its parity report and its grades are those of the artifact it came from. The golden pairs' distributions are
brought to the new temperature, and the provenance says what was done.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from cli.errors import MISUSED, CliError
from cli.scored_file import Columns
from cli.tables import read_rows
from engine.local import LocalScorer
from relevance.artifact import CARD_FILE, GoldenPair, Manifest, load_artifact, write_manifest
from relevance.calibration import by_temperature, cross_fitted, fit_temperature
from relevance.metrics import expected_calibration_error
from relevance.pair import Pair
from relevance.scoring import FloatArray, grade_distribution

MIN_PAIRS = 50


@dataclass(frozen=True, slots=True)
class Labels:
    """A file of pairs with grades."""

    path: Path
    columns: Columns
    grade_column: str

    def read(self, num_grades: int) -> tuple[list[Pair], NDArray[np.int64]]:
        """Pairs and grades [N].

        Raises:
            CliError: a text or a grade is missing or no grade of the scale; too few pairs to fit anything.
        """
        pairs, grades = [], []
        for number, row in enumerate(read_rows(self.path), start=1):
            pairs.append(self.columns.pair(row, number))
            grades.append(self._grade(row.get(self.grade_column), number, num_grades))
        if len(pairs) < MIN_PAIRS:
            raise CliError(
                f"{self.path}: {len(pairs)} pairs; at least {MIN_PAIRS} are needed, some hundreds are better"
            )
        return pairs, np.array(grades, dtype=np.int64)

    def _grade(self, value: object, number: int, num_grades: int) -> int:
        try:
            grade = float(value) if isinstance(value, int | float | str) else -1.0
        except ValueError:
            grade = -1.0
        if grade != int(grade) or not 0 <= grade < num_grades:
            raise CliError(
                f"row {number}: column {self.grade_column!r} must be a whole number from 0 to {num_grades - 1}, "
                f"got {value!r}"
            )
        return int(grade)


def recalibrate(scorer: LocalScorer, labels: Labels, out: Path) -> None:
    """Fit, write the artifact at `out`, and say what came of it.

    Raises:
        CliError: `out` exists, or the labels are unfit.
    """
    if out.exists():
        raise CliError(f"{out}: exists already", MISUSED)
    manifest = scorer.artifact.manifest
    pairs, gold = labels.read(manifest.spec.scale.num_grades)
    logits = np.asarray(scorer.label_logits(pairs), dtype=np.float64)
    before = grade_distribution(logits, manifest.spec.temperature)
    try:
        fitted_elsewhere = cross_fitted(logits, gold, [pair.query for pair in pairs], by_temperature)
    except ValueError as error:
        raise CliError(f"{labels.path}: {error}") from error
    temperature = fit_temperature(logits, gold)
    report = {
        "temperature": {"before": manifest.spec.temperature, "after": temperature},
        "ece": {
            "before": expected_calibration_error(before, gold),
            "after": expected_calibration_error(fitted_elsewhere, gold),
        },
        "num_pairs": len(pairs),
    }
    _write(scorer.artifact.folder, _recalibrated(manifest, temperature, {**report, "file": labels.path.name}), out)
    typer.echo(json.dumps({**report, "model": load_artifact(out).model_id}))


def _recalibrated(manifest: Manifest, temperature: float, report: dict[str, object]) -> Manifest:
    spec = manifest.spec.model_copy(update={"temperature": temperature})
    golden = tuple(_retempered(pair, manifest.spec.temperature, temperature) for pair in manifest.golden_pairs)
    training = {
        **manifest.provenance.training,
        "recalibrated": {**report, "date": datetime.now(UTC).isoformat(timespec="seconds")},
    }
    provenance = manifest.provenance.model_copy(update={"training": training})
    return manifest.model_copy(update={"spec": spec, "golden_pairs": golden, "provenance": provenance})


def _retempered(pair: GoldenPair, before: float, after: float) -> GoldenPair:
    logits = before * np.log(np.maximum(np.array([pair.distribution]), 1e-12))
    distribution: FloatArray = grade_distribution(logits, after)[0]
    return pair.model_copy(update={"distribution": tuple(np.round(distribution, 6).tolist())})


def _write(source: Path, manifest: Manifest, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work:
        folder = Path(work) / "artifact"
        folder.mkdir()
        for name in (*manifest.files, CARD_FILE):
            if (source / name).is_file():
                shutil.copy2(source / name, folder / name)
        write_manifest(folder, manifest)
        load_artifact(folder)
        folder.rename(out)
