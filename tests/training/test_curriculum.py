"""Curriculum: difficulty by hand, stages from it, and a tiny run that stops and goes on."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from training.config import ConfigError
from training.curriculum import __main__ as command
from training.curriculum import compare
from training.curriculum.config import CurriculumConfig, Pick
from training.curriculum.difficulty import MeasuredRow, confidence_and_margin, long_tail
from training.curriculum.plan import EmptyStageError, pick_rows, plan, stage_figures
from training.curriculum.stages import run_curriculum
from training.data import LabelledPair
from training.rules import RuleBook

CONFIGS = Path(__file__).parents[2] / "configs" / "training"


def pair(grade: int, document: str = "a case") -> LabelledPair:
    return LabelledPair("red case", document, tuple(float(k == grade) for k in range(4)))


def row(difficulty: float, *, synthetic: bool = False, file: str = "real", tail: bool = False) -> MeasuredRow:
    return MeasuredRow(pair(3), file, 1, synthetic, 1.0 - difficulty, 1.0 - 2 * difficulty, tail)


def test_confidence_and_margin_by_hand() -> None:
    confidence, margin = confidence_and_margin(
        [[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.5, 0.3, 0.2]], [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]
    )
    assert confidence.tolist() == pytest.approx([0.7, 0.2, 0.4])
    assert margin.tolist() == pytest.approx([0.5, -0.5, 0.2])


def test_the_long_tail_is_rare_grades_and_rare_rules() -> None:
    common = [LabelledPair("drill", f"Cordless Drill {n}", (0.0, 0.0, 0.0, 1.0)) for n in range(18)]
    rare_grade = LabelledPair("drill", "Drill 99", (1.0, 0.0, 0.0, 0.0))
    rare_rule = LabelledPair("bosch drill", "Makita Drill", (0.0, 0.0, 0.0, 1.0))
    flags = long_tail(RuleBook.preset(), [*common, rare_grade, rare_rule], rare_rule=0.06, rare_grade=0.1)
    assert flags.tolist() == [False] * 18 + [True, True]


def test_picks_take_quantiles_of_each_file() -> None:
    rows = [row(d / 10) for d in range(10)] + [row(d / 10, file="other") for d in range(5, 10)]
    rows += [row(0.0, synthetic=True, file="made")]

    def picked(**fields: Any) -> list[int]:
        return pick_rows(rows, Pick.model_validate(fields), random.Random(0))

    assert picked(pool="real", hardest=0.4) == [0, 1, 2, 3, 10, 11]
    assert picked(pool="real", easiest=0.8) == [8, 9, 14]
    assert picked(pool="synthetic") == [15]
    assert len(picked(pool="real", max_rows=3)) == 6
    rows[9] = row(0.9, tail=True)
    assert picked(pool="real", easiest=0.5, long_tail_only=True) == [9]


def settings(checkpoint: Path, **changes: Any) -> CurriculumConfig:
    fields = {
        "base_model": str(checkpoint),
        "measure_with": str(checkpoint),
        "real": ("train.jsonl.gz",),
        "synthetic": ("soft.jsonl",),
        "validation": ("val.jsonl.gz",),
        "stages": (
            {"name": "easy", "picks": [{"pool": "synthetic"}, {"pool": "real", "hardest": 0.5, "max_rows": 40}]},
            {"name": "hard", "picks": [{"pool": "real", "easiest": 0.5, "max_rows": 30}], "replay": 0.25},
        ),
        "batch_tokens": 512,
        "precision": "float32",
        **changes,
    }
    return CurriculumConfig.model_validate(fields)


def test_a_plan_replays_the_wanted_share_of_earlier_rows(tiny_checkpoint: Path) -> None:
    rows = [row(d / 100) for d in range(100)] + [row(0.5, synthetic=True, file="made")]
    easy, hard = plan(rows, settings(tiny_checkpoint))
    assert len(easy) == 41
    assert 100 in easy
    assert all(index < 50 for index in easy if index != 100)
    new, replayed = hard[:30], hard[30:]
    assert all(50 <= index < 100 for index in new)
    assert len(replayed) == 10  # a quarter of 40
    assert set(replayed) <= set(easy)
    assert plan(rows, settings(tiny_checkpoint)) == [easy, hard]
    figures = stage_figures(rows, [0, 99, 100], settings(tiny_checkpoint).stages[0])
    assert (figures["num_rows"], figures["synthetic"], figures["wrong"]) == (
        3,
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert figures["difficulty"]["mean"] == pytest.approx((0.0 + 0.99 + 0.5) / 3)
    assert figures["grades"] == {"3": 1.0}


def test_a_stage_without_rows_is_named(tiny_checkpoint: Path) -> None:
    with pytest.raises(EmptyStageError, match="'easy'"):
        plan([], settings(tiny_checkpoint))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"real": ("test.jsonl.gz",)}, "never trained"),
        ({"synthetic": ()}, "no synthetic file"),
        ({"stages": ({"name": "a", "picks": [{"pool": "real", "easiest": 0.6, "hardest": 0.5}]},)}, "must be below"),
        ({"stages": ({"name": "a", "picks": [{"pool": "real"}]},) * 2}, "two stages share a name"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        settings(tmp_path, **changes)


@pytest.mark.parametrize("name", ["curriculum.toml", "curriculum_small.toml"])
def test_shipped_configurations(name: str) -> None:
    assert [stage.name for stage in CurriculumConfig.from_toml(CONFIGS / name).stages] == ["easy", "broad", "hard"]


def test_finished_stages_are_not_run_again(tiny_checkpoint: Path, data_dir: Path, tmp_path: Path) -> None:
    config = settings(tiny_checkpoint)
    figures = run_curriculum(config, data_dir, tmp_path)
    assert [stage["stage"] for stage in figures] == ["easy", "hard"]
    assert figures[0]["difficulty"]["mean"] < figures[1]["difficulty"]["mean"]
    assert figures[1]["validation"][f"{data_dir.name}/val.jsonl.gz"]["num_pairs"] == 60
    weights = (tmp_path / "checkpoint" / "model.safetensors").read_bytes()
    easy_log = (tmp_path / "1-easy" / "log.jsonl").read_text()
    start = json.loads((tmp_path / "2-hard" / "log.jsonl").read_text().splitlines()[0])
    assert start["config"]["base_model"] == str(tmp_path / "1-easy" / "checkpoint")

    shutil.rmtree(tmp_path / "2-hard")  # as if stopped between the stages
    assert run_curriculum(config, data_dir, tmp_path) == figures
    assert (tmp_path / "1-easy" / "log.jsonl").read_text() == easy_log
    assert (tmp_path / "checkpoint" / "model.safetensors").read_bytes() == weights
    with pytest.raises(ConfigError, match="another configuration"):
        run_curriculum(settings(tiny_checkpoint, seed=3), data_dir, tmp_path)


def toml(checkpoint: Path) -> str:
    return (
        f'base_model = "{checkpoint}"\nmeasure_with = "{checkpoint}"\n'
        'real = ["train.jsonl.gz"]\nvalidation = ["val.jsonl.gz"]\nmeasured_rows = 40\nbatch_tokens = 512\n'
        '[[stages]]\nname = "easy"\npicks = [{ pool = "real", hardest = 0.5 }]\n'
        '[[stages]]\nname = "hard"\npicks = [{ pool = "real", easiest = 0.5 }]\nreplay = 0.5\n'
    )


def test_the_commands(
    tiny_checkpoint: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(toml(tiny_checkpoint))
    argv = [str(tmp_path / "c.toml"), "--data-dir", str(data_dir)]
    command.main([*argv, "--run", str(tmp_path / "run"), "--plan-only"])
    assert "hard                 40 rows" in capsys.readouterr().out
    assert not (tmp_path / "run" / "1-easy").exists()

    result = tmp_path / "result.json"
    compare.main([*argv, "--run", str(tmp_path / "compare"), "--seeds", "0", "1", "--result", str(result)])
    written = json.loads(result.read_text())
    (by_figure,) = written["figures"].values()
    runs = [seed["curriculum"][next(iter(seed["curriculum"]))]["accuracy"] for seed in written["runs"]]
    assert by_figure["accuracy"]["curriculum"]["mean"] == pytest.approx(sum(runs) / 2)
    logs = [tmp_path / "compare" / "seed-0" / arm / "2-hard" / "rows.jsonl" for arm in ("curriculum", "shuffled")]
    counts = [len(log.read_text().splitlines()) for log in logs]
    assert counts[0] == counts[1] == 40


def test_shuffling_keeps_rows_and_sizes() -> None:
    stages = [[1, 2, 3], [4, 5], [1, 6]]
    shuffled = compare.shuffle_stages(stages, 0)
    assert [len(stage) for stage in shuffled] == [3, 2, 2]
    assert sorted(index for stage in shuffled for index in stage) == [1, 1, 2, 3, 4, 5, 6]
    assert shuffled != stages
