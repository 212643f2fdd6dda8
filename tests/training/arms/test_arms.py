"""The whole comparison, a few steps long: every kind of arm, resumed, collected, plotted."""

import gzip
import json
from pathlib import Path

import pytest

from training.arms import __main__ as arms
from training.arms import plots
from training.arms.catalogue import draw_splits
from training.arms.config import ArmsConfig
from training.config import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

KEPT = ("label_only", "answer_first", "stepwise_sft_03", "label_exact", "distil_both")


def small_config(path: Path, seeds: str = "[0]") -> None:
    source = (Path(__file__).parents[3] / "configs" / "training" / "arms.toml").read_text()
    head, *blocks = source.split("[[arms]]")
    head = head.replace("seeds = [0, 1, 2, 3, 4]", f"seeds = {seeds}").replace("rows = 4000", "rows = 40")
    for field in ("steps = 500", "steps = 300", "steps = 250", "max_steps = 24"):
        head = head.replace(field, field.split("=")[0] + "= 2")
    for old, new in (
        ("generated_pairs = 150", "generated_pairs = 2"),
        ("per_device_train_batch_size = 48", "per_device_train_batch_size = 6"),
        ("max_completion_length = 80", "max_completion_length = 8"),
        ("free_tokens = 80", "free_tokens = 8"),
        ("hidden_size = 96", "hidden_size = 24"),
        ("intermediate_size = 192", "intermediate_size = 24"),
        ("num_hidden_layers = 3", "num_hidden_layers = 2"),
        ("student_layers = 2", "student_layers = 1"),
        ("batch = 48", "batch = 8"),
    ):
        assert old in head, old
        head = head.replace(old, new)
    kept = [block for block in blocks if block.split('"')[1] in KEPT]
    path.write_text("[[arms]]".join([head, *kept]).replace("answer_first_longer", "answer_first"))


def test_arms_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, rows in draw_splits(0, 60, 3, 1).items():
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as out:
            out.write("".join(json.dumps(row) + "\n" for row in rows))
    config, out = tmp_path / "arms.toml", tmp_path / "result.json"
    small_config(config)
    command = [str(config), "--data-dir", str(tmp_path), "--run", str(tmp_path / "run"), "--out", str(out)]
    arms.main(command)
    result = json.loads(out.read_text())
    assert tuple(result["arms"]) == KEPT
    for name, arm in result["arms"].items():
        assert arm["seeds"] == [0]
        assert 0.0 <= arm["figures"]["macro_f1"]["mean"] <= 1.0
        assert set(arm["rules"]) == set(result["rules"])
        assert (len(arm["curves"][0]) > 1) == (name != "distil_both")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").glob("*/figures.json")}
    (tmp_path / "run" / "label_exact-0" / "figures.json").unlink()
    arms.main(command)  # what is there stays, what is missing is made: the same, by its seed
    again = json.loads(out.read_text())
    assert again["arms"]["label_exact"]["figures"]["accuracy"] == result["arms"]["label_exact"]["figures"]["accuracy"]
    assert {p: p.stat().st_mtime_ns for p in times if "exact" not in str(p)} == {
        p: t for p, t in times.items() if "exact" not in str(p)
    }
    plots.main([str(out), str(tmp_path)])
    assert "recall, rare rules" in (tmp_path / "arms_collapse.svg").read_text()
    small_config(config, seeds="[0, 1]")
    with pytest.raises(ConfigError, match="another configuration"):
        arms.main(command)
    assert ArmsConfig.from_toml(config).seeds == (0, 1)


def test_spread_over_seeds() -> None:
    assert arms.spread([0.1, 0.2, 0.3]) == {
        "mean": pytest.approx(0.2),
        "std": pytest.approx(0.1),
        "values": [0.1, 0.2, 0.3],
    }
    assert arms.spread([0.5])["std"] == 0.0
