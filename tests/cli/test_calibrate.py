"""`answer-first calibrate`: a new temperature, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from cli.app import main
from engine.local import LocalScorer
from relevance.artifact import load_artifact
from relevance.pair import Pair
from relevance.scoring import grade_distribution
from tests.api.test_program import TINY

PAIRS = [
    Pair(f"query {number} cable", f"cable {number % 7} of {word}") for number in range(40) for word in ("usb", "hdmi")
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grades drawn at three times the artifact's own temperature."""
    scorer = LocalScorer.open(TINY, num_threads=1)
    logits = scorer.label_logits(PAIRS).astype(float)
    truth = grade_distribution(logits, 3.0 * scorer.artifact.manifest.spec.temperature)
    scorer.close()
    generator = np.random.default_rng(1)
    rows = [
        {"query": pair.query, "document": pair.document, "grade": int(generator.choice(len(p), p=p))}
        for pair, p in zip(PAIRS, truth, strict=True)
    ]
    path = tmp_path_factory.mktemp("judged") / "judged.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_the_new_artifact_differs_by_its_temperature(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ours"
    assert main(["calibrate", str(judged), str(out), "--artifact", str(TINY), "--threads", "1"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    old, new = load_artifact(TINY), load_artifact(out)
    assert said["model"] == new.model_id != old.model_id
    assert said["temperature"] == {"before": old.manifest.spec.temperature, "after": new.manifest.spec.temperature}
    assert said["temperature"]["after"] > said["temperature"]["before"]
    assert new.manifest.provenance.training["recalibrated"]["num_pairs"] == len(PAIRS)
    assert new.manifest.files == old.manifest.files
    before, after = (LocalScorer.open(folder, num_threads=1) for folder in (TINY, out))
    assert (before.label_logits(PAIRS) == after.label_logits(PAIRS)).all()
    golden = new.manifest.golden_pairs
    found = after.distributions([Pair(pair.query, pair.document, pair.instruction) for pair in golden])
    assert found == pytest.approx(np.array([pair.distribution for pair in golden]), abs=1e-4)  # at the new temperature
    before.close()
    after.close()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"query": "a", "document": "b", "grade": 4},
            "row 81: column 'grade' must be a whole number from 0 to 3, got 4",
        ),
        ({"query": "a", "document": "b", "grade": "x"}, "row 81: column 'grade' must be"),
        ({"query": "a", "document": "b", "grade": None}, "row 81: column 'grade' must be"),
        ({"query": "a", "grade": 1}, "row 81: column 'document' holds no text"),
    ],
)
def test_a_bad_row_is_named_and_nothing_written(
    judged: Path, tmp_path: Path, row: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(judged.read_text(encoding="utf-8") + "\n" + json.dumps(row), encoding="utf-8")
    assert main(["calibrate", str(bad), str(tmp_path / "out"), "--artifact", str(TINY), "--threads", "1"]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_few_pairs_one_query_and_an_existing_folder_are_refused(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, one = tmp_path / "few.jsonl", tmp_path / "one.jsonl"
    lines = judged.read_text(encoding="utf-8").splitlines()
    few.write_text("\n".join(lines[:10]), encoding="utf-8")
    one.write_text("\n".join(json.dumps({**json.loads(line), "query": "same"}) for line in lines), encoding="utf-8")
    for source, out, status, said in (
        (few, tmp_path / "out", 1, "10 pairs; at least 50"),
        (one, tmp_path / "out", 1, "at least two of 5 parts"),
        (judged, tmp_path, 2, "exists already"),
    ):
        assert main(["calibrate", str(source), str(out), "--artifact", str(TINY), "--threads", "1"]) == status
        assert said in capsys.readouterr().err
