"""The committed tiny artifact is what the code makes today."""

from pathlib import Path

import numpy as np

from model_export.tiny import main
from relevance.artifact import load_artifact

COMMITTED = Path(__file__).parents[1] / "data" / "tiny_artifact"


def test_the_committed_artifact_can_be_made_again(tmp_path: Path) -> None:
    assert main([str(tmp_path / "tiny")]) == 0
    made, committed = load_artifact(tmp_path / "tiny").manifest, load_artifact(COMMITTED).manifest
    varying = {"provenance", "parity", "golden_pairs"}
    assert made.model_dump(exclude=varying) == committed.model_dump(exclude=varying), (
        "tests/data/tiny_artifact is out of date: run `python -m model_export.tiny tests/data/tiny_artifact`"
    )
    for new, old in zip(made.golden_pairs, committed.golden_pairs, strict=True):
        assert (new.query, new.document) == (old.query, old.document)
        assert np.abs(np.subtract(new.distribution, old.distribution)).max() <= 1e-5


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in COMMITTED.iterdir()) < 1_000_000
