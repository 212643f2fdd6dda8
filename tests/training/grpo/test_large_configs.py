"""The configurations for GPUs, which no test machine has: parsed, and run dry on a small policy."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType
from trl.scripts.vllm_serve import ScriptArguments

from training.grpo import policy, supervised
from training.grpo.config import PolicyConfig, SupervisedConfig

CONFIGS = Path(__file__).parents[3] / "configs" / "training"
SIZES = ("0.6b", "32b")
# What belongs to the machine and not to the method.
MACHINE = {"bf16": False, "use_cpu": True, "use_vllm": False, "disable_tqdm": True, "gradient_checkpointing": False}

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def on_this_machine(content: dict[str, Any], base: Path) -> dict[str, Any]:
    trl = {**content["trl"], **MACHINE}
    del trl["model_init_kwargs"]
    return {**content, "base_model": str(base), "spec": None, "data": ["train.jsonl"], "trl": trl}


@pytest.mark.parametrize("size", SIZES)
def test_the_policy_configurations_build_a_trainer(
    size: str, answering: Path, answers_dir: Path, tmp_path: Path
) -> None:
    path = CONFIGS / f"qwen3_{size}_grpo.toml"
    config = PolicyConfig.from_toml(path)
    assert config.base_model == f"runs/{size}-sft/checkpoint"
    assert (config.credit, config.trl["num_generations"], config.trl["use_vllm"]) == ("stepwise", 16, True)
    num_processes = 16 if size == "32b" else 1
    rollouts = num_processes * config.trl["per_device_train_batch_size"] * config.trl["gradient_accumulation_steps"]
    assert rollouts % config.trl["num_generations"] == 0
    assert config.trl["max_completion_length"] > config.rewards.free_tokens
    dry = PolicyConfig.model_validate(on_this_machine(tomllib.loads(path.read_text()), answering))
    trainer, _ = policy.build(dry, answers_dir, tmp_path / "run")
    assert (trainer.num_generations, trainer.beta, trainer.args.max_steps) == (16, 0.02, 1000)
    assert trainer.ref_model is not None


@pytest.mark.parametrize("size", SIZES)
def test_the_supervised_configurations_build_a_trainer(
    size: str, base: Path, answers_dir: Path, tmp_path: Path
) -> None:
    path = CONFIGS / f"qwen3_{size}_sft.toml"
    assert SupervisedConfig.from_toml(path).spec == "qwen3-grades"
    dry = on_this_machine(tomllib.loads(path.read_text()), base)
    del dry["trl"]["use_vllm"]
    trainer, _ = supervised.build(SupervisedConfig.model_validate(dry), answers_dir, tmp_path / "run")
    assert trainer.args.num_train_epochs == 2


def test_accelerate_reads_its_files() -> None:
    sharded = load_config_from_file(str(CONFIGS / "qwen3_32b_zero3.yaml"))
    assert isinstance(sharded, ClusterConfig)
    assert (sharded.distributed_type, sharded.num_processes) == (DistributedType.DEEPSPEED, 16)
    assert sharded.deepspeed_config["zero_stage"] == 3
    single = load_config_from_file(str(CONFIGS / "qwen3_one_gpu.yaml"))
    assert (single.distributed_type, single.num_processes) == (DistributedType.NO, 1)


def test_the_rollout_server_takes_the_options_the_configuration_names() -> None:
    known = ScriptArguments.__dataclass_fields__
    line = next(line for line in (CONFIGS / "qwen3_32b_grpo.toml").read_text().splitlines() if "vllm-serve" in line)
    assert {word.removeprefix("--") for word in line.split() if word.startswith("--")} <= known.keys()
