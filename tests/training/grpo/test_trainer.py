"""The trainer against TRL's own, and against its own promises, on a policy of a few thousand weights."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from trl import GRPOTrainer

from training.config import ConfigError
from training.grpo.config import PolicyConfig
from training.grpo.policy import build, trl_config
from training.grpo.stage import BaseCheckpoint, train_and_save
from training.grpo.trainer import StepwiseGrpoTrainer
from training.rewards import SEGMENTS

# What the libraries warn of themselves, at import and at start.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

TRL = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "generation_batch_size": 8,
    "max_completion_length": 12,
    "learning_rate": 1e-3,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "save_steps": 2,
    "temperature": 1.0,
}


def config(base: Path, **changes: Any) -> PolicyConfig:
    trl = {**TRL, **changes.pop("trl", {})}
    return PolicyConfig(base_model=str(base), data=("train.jsonl",), trl=trl, **changes)


def trainer_of(tmp_path: Path, answers_dir: Path, policy: PolicyConfig) -> StepwiseGrpoTrainer:
    trainer, _ = build(policy, answers_dir, tmp_path / "run")
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def first_batch(trainer: GRPOTrainer) -> dict[str, Any]:
    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    torch.manual_seed(0)
    batch: dict[str, Any] = trainer._generate_and_score_completions(rows)
    return batch


def test_with_one_segment_and_no_anchor_the_loss_is_trls(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    policy = config(answering, order="grade_only", rewards={"grade": "ordinal"})
    ours = trainer_of(tmp_path, answers_dir, policy)
    stepwise = first_batch(ours)
    theirs = GRPOTrainer(
        model=str(answering),
        reward_funcs=ours.reward_funcs,
        args=trl_config(policy, tmp_path / "theirs"),
        train_dataset=ours.train_dataset,
        processing_class=ours.processing_class,
    )
    theirs._tokenize_prompts = lambda prompts: (prompts, None, {})
    theirs.current_gradient_accumulation_steps = 1
    plain = first_batch(theirs)
    assert stepwise["completion_ids"].equal(plain["completion_ids"])
    assert stepwise["advantages"].abs().max() > 0.1  # some group disagrees, or nothing would be compared
    # Rollouts of a grade-only answer have tokens behind the grade, which belong to no segment: compare the grade's.
    assert stepwise["advantages"][:, 0].allclose(plain["advantages"], atol=1e-6)
    one = {**stepwise, "completion_mask": _first_token_only(stepwise), "advantages": stepwise["advantages"]}
    same = {**plain, "completion_mask": _first_token_only(plain)}
    for name, value in ours.model.named_parameters():  # a step away from the reference: KL and ratio are not trivial
        value.data.add_(0.01)
        dict(theirs.model.named_parameters())[name].data.copy_(value.data)
    for batch in (one, same):
        batch["old_per_token_logps"] = torch.full(batch["completion_ids"].shape, -2.0)
    loss, reference = ours._compute_loss(ours.model, one), theirs._compute_loss(theirs.model, same)
    torch.testing.assert_close(loss, reference)
    loss.backward()
    reference.backward()
    for (name, mine), (_, other) in zip(ours.model.named_parameters(), theirs.model.named_parameters(), strict=True):
        assert mine.grad is not None, name
        torch.testing.assert_close(mine.grad, other.grad, msg=name)


def _first_token_only(batch: dict[str, Any]) -> torch.Tensor:
    mask = torch.zeros_like(batch["completion_mask"])
    mask[:, 0] = 1
    return mask


def test_the_anchor_and_the_exact_grade_add_what_they_say(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    plain = trainer_of(tmp_path / "a", answers_dir, config(answering))
    batch = first_batch(plain)
    alone = plain._compute_loss(plain.model, batch)
    with torch.no_grad():
        supervised, expected = plain._gold_pass(plain.model, batch)
    full = config(answering, anchor={"start": 0.9, "end": 0.05, "num_steps": 4}, exact_grade=2.0)
    both = trainer_of(tmp_path / "b", answers_dir, full)
    both.state.global_step = 2
    loss = both._compute_loss(both.model, batch)
    weight = 0.9 + (0.05 - 0.9) * 2 / 4
    torch.testing.assert_close(loss.detach(), (alone + weight * supervised - 2.0 * expected).detach())


def test_an_exact_grade_replaces_the_sampled_one(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    sampled = first_batch(trainer_of(tmp_path / "a", answers_dir, config(answering, rewards={"grade": "ordinal"})))
    exact = config(answering, rewards={"grade": "ordinal"}, exact_grade=1.0)
    replaced = first_batch(trainer_of(tmp_path / "b", answers_dir, exact))
    assert sampled["advantages"][:, 0].abs().max() > 0.1
    assert replaced["advantages"][:, 0].abs().max() == 0.0
    assert replaced["advantages"][:, 1:].equal(sampled["advantages"][:, 1:])


def test_groups_too_easy_or_too_hard_teach_the_policy_nothing(
    tmp_path: Path, answering: Path, answers_dir: Path
) -> None:
    batch = first_batch(trainer_of(tmp_path, answers_dir, config(answering, difficulty=(0.99, 1.0))))
    assert batch["advantages"].abs().max() == 0.0


def test_a_run_resumes_and_ends_where_an_unbroken_one_does(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    policy = config(answering, anchor={"end": 0.3})
    straight, checkpoint = build(policy, answers_dir, tmp_path / "straight")
    train_and_save(straight, tmp_path / "straight", checkpoint, "grpo")
    broken, _ = build(policy, answers_dir, tmp_path / "broken")
    broken.args.max_steps = 4
    broken.add_callback(_StopAt(2))
    broken.train()
    resumed, checkpoint = build(policy, answers_dir, tmp_path / "broken")
    train_and_save(resumed, tmp_path / "broken", checkpoint, "grpo")
    one, other = (load_file(tmp_path / run / "checkpoint" / "model.safetensors") for run in ("straight", "broken"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], msg=name)
    start = load_file(answering / "model.safetensors")
    assert any(not value.equal(start[name]) for name, value in one.items())
    steps = [json.loads(line) for line in (tmp_path / "straight" / "log.jsonl").read_text().splitlines()]
    wanted = {"grade_entropy", "kl", "group_agreement", "sft_loss", "anchor_weight", "rewards/grade/mean"}
    assert wanted <= steps[0].keys()
    assert BaseCheckpoint(str(tmp_path / "broken" / "checkpoint"), None).spec.scale.num_grades == 4


class _StopAt(TrainerCallback):
    """A run that is cut off after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, *args: Any, **_: Any) -> None:
        state, control = args[1:3]
        control.should_training_stop = state.global_step >= self._step


def test_a_run_folder_holds_one_configuration(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    trainer_of(tmp_path, answers_dir, config(answering))
    with pytest.raises(ConfigError, match="another configuration"):
        trainer_of(tmp_path, answers_dir, config(answering, seed=1))


def test_what_trl_refuses_claims_no_folder(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    with pytest.raises(ValueError, match="divisible by num_generations"):
        build(config(answering, trl={"num_generations": 3}), answers_dir, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trl_still_has_what_is_overridden() -> None:
    expected = {
        "_tokenize_prompts": ["self", "prompts"],
        "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        "_generate_and_score_completions": ["self", "inputs"],
        "_compute_loss": ["self", "model", "inputs"],
    }
    found = {name: list(inspect.signature(getattr(GRPOTrainer, name)).parameters) for name in expected}
    assert found == expected
    assert "advantages with shape (B, T)" in inspect.getsource(GRPOTrainer._compute_loss)


def test_rewards_are_logged_per_segment_in_order(tmp_path: Path, answering: Path, answers_dir: Path) -> None:
    trainer = trainer_of(tmp_path, answers_dir, config(answering, rewards={"weights": {"verdict": 0.5}}))
    assert tuple(trainer.reward_func_names) == SEGMENTS
    assert trainer.reward_weights.tolist() == [0.5 if name == "verdict" else 1.0 for name in SEGMENTS]
