"""How much a late model's reader counts: chosen on validation and written into the checkpoint's head, no more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.tiny import write_checkpoint
from modeling.loading import load_model
from training import calibrate
from training.calibrate import choose_reader_share


def test_a_reader_that_is_right_keeps_its_weight_one_that_overshoots_loses_some() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 4, 400)
    right = 3.0 * np.eye(4)[gold]
    nothing = np.zeros((400, 4))
    assert choose_reader_share([right], [nothing], [gold]) == 1.0
    # Right as to direction, and stronger than the rest by less than a tenth where it is wrong.
    wrong = 3.15 * np.eye(4)[(gold + 2) % 4]
    assert choose_reader_share([wrong], [right], [gold]) == 0.95


def test_files_count_alike() -> None:
    gold = np.array([0, 1, 2, 3] * 5)
    right, none = 3.0 * np.eye(4)[gold], np.zeros((20, 4))
    wrong = 3.15 * np.eye(4)[(gold + 2) % 4]
    long = [np.tile(part, (50, 1)) for part in (right, none)]
    # In the long file the share makes no difference: the short one decides.
    assert choose_reader_share([long[0], wrong], [long[1], right], [np.tile(gold, 50), gold]) == 0.95


def test_the_share_is_written_into_the_head_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "READER_SHARES", (0.5,))
    write_checkpoint(tmp_path / "checkpoint")
    before = load_model(str(tmp_path / "checkpoint")).state_dict()
    rows = [{"query": "usb cable", "document": f"a {w} cable", "grade": i % 4} for i, w in enumerate("abcdefghijkl")]
    (tmp_path / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    calibrate.main([str(tmp_path / "checkpoint"), "--data-dir", str(tmp_path), "--data", "val.jsonl"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["reader_share"] == 0.5
    after = load_model(str(tmp_path / "checkpoint")).state_dict()
    torch.testing.assert_close(after.pop("label_head.weight"), 0.5 * before.pop("label_head.weight"))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
