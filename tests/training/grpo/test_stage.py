"""What both stages check before they train, and the supervised one."""

import json
import random
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from relevance.spec import SPEC_FILE, ScoringSpec
from tests.training.grpo.conftest import SPEC
from training.config import ConfigError
from training.grpo.answers import AnswerPair
from training.grpo.config import PolicyConfig, SupervisedConfig
from training.grpo.stage import BaseCheckpoint, draw_pairs, oversample

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def test_a_supervised_run_learns_to_answer_with_a_grade(answering: Path) -> None:
    steps = [json.loads(line) for line in (answering.parent / "log.jsonl").read_text().splitlines()]
    assert steps[-1]["train_loss"] < 4.0  # ln(230 tokens) is 5.4
    assert json.loads((answering / "training.json").read_text())["stage"] == "supervised"


def copy_of(base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(base: Path, tmp_path: Path) -> None:
    folder = copy_of(base, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] - 1}))
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ConfigError, match="do not belong together"):
        BaseCheckpoint(str(folder), None)


def test_a_spec_other_than_the_checkpoints_is_refused(base: Path, tmp_path: Path) -> None:
    names = [grade.model_copy(update={"label": "abcd"[i]}) for i, grade in enumerate(SPEC.scale.grades)]
    SPEC.model_copy(update={"scale": SPEC.scale.model_copy(update={"grades": tuple(names)})}).to_file(
        tmp_path / "letters.json"
    )
    with pytest.raises(ConfigError, match=r"was trained with .*'0', '1', '2', '3'.* not .*'a', 'b', 'c', 'd'"):
        BaseCheckpoint(str(base), str(tmp_path / "letters.json"))


def test_a_checkpoint_without_a_spec_needs_one_named(base: Path, tmp_path: Path) -> None:
    folder = copy_of(base, tmp_path)
    (folder / SPEC_FILE).unlink()
    with pytest.raises(ConfigError, match=r"carries no scoring_spec\.json"):
        BaseCheckpoint(str(folder), None)


def test_attention_both_ways_is_no_language_model(base: Path, tmp_path: Path) -> None:
    folder = copy_of(base, tmp_path)
    ScoringSpec.preset("minilm-grades").to_file(folder / SPEC_FILE)
    with pytest.raises(ConfigError, match="causal"):
        BaseCheckpoint(str(folder), None)


def test_rare_rules_are_repeated(answers_dir: Path, base: Path) -> None:
    pairs = [AnswerPair("q", "d", 0, None, "often")] * 64 + [AnswerPair("q", "d", 1, None, "rare")] * 4
    rare = [pair.rule for pair in oversample(pairs, 0.5, random.Random(0))].count("rare")
    assert rare == 4 * 4  # (64 / 4) ** .5
    many = [pair.rule for pair in oversample([*pairs, AnswerPair("q", "d", 1, None, "once")], 1.0, random.Random(0))]
    assert (many.count("rare"), many.count("once"), many.count("often")) == (4 * 16, 16, 64)
    config = PolicyConfig(base_model=str(base), data=("train.jsonl",), max_rows=10)
    assert len(draw_pairs(config, answers_dir, 4)) == 10
    assert draw_pairs(config, answers_dir, 4) == draw_pairs(config, answers_dir, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('base_model = "x"\n', "data: Field required"),
        ('base_model = "x"\ndata = ["a"]\n[trl]\nnum_generation = 4\n', "GRPOConfig has no such field"),
        ('base_model = "x"\ndata = ["a"]\n[trl]\nseed = 4\n', "set by the run itself"),
        ('base_model = "x"\ndata = ["a"]\n[trl]\nscale_rewards = "batch"\n', "scale_rewards"),
        ('base_model = "x"\ndata = ["a"]\n[rewards.weights]\nverdicts = 1\n', "no segment verdicts"),
        ('base_model = "x"\ndata = ["a"]\ncredit = "whole"\nexact_grade = 1\n', "exact_grade needs"),
        ('base_model = "x"\ndata = ["a"]\norder = "reason_first"\n', "starts with the grade"),
    ],
)
def test_bad_configurations_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(content)
    with pytest.raises(ConfigError, match=rf"c\.toml: .*{message}"):
        PolicyConfig.from_toml(tmp_path / "c.toml")


def test_supervised_configurations_know_trls_supervised_fields(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('base_model = "x"\ndata = ["a"]\n[trl]\nnum_generations = 4\n')
    with pytest.raises(ConfigError, match="SFTConfig has no such field"):
        SupervisedConfig.from_toml(tmp_path / "c.toml")
