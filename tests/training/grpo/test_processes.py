"""Training on several processes: the same curve as one, and configurations that accelerate understands."""

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

from training.grpo.config import SupervisedConfig
from training.grpo.stage import claim_run, train_and_save
from training.grpo.supervised import build

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "training"
GLOBAL_BATCH, NUM_STEPS = 16, 6

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def toml(base: Path, num_processes: int) -> str:
    return f"""base_model = "{base}"
data = ["train.jsonl"]
grade_weight = 0.9
[trl]
max_steps = {NUM_STEPS}
per_device_train_batch_size = {GLOBAL_BATCH // num_processes}
learning_rate = 2e-2
use_cpu = true
{'ddp_backend = "gloo"' if num_processes > 1 else ""}
bf16 = false
gradient_checkpointing = false
disable_tqdm = true
save_strategy = "no"
logging_steps = 1
"""


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if "loss" in event]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one_at_the_same_global_batch(
    base: Path, answers_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "one.toml").write_text(toml(base, 1))
    trainer, checkpoint = build(SupervisedConfig.from_toml(tmp_path / "one.toml"), answers_dir, tmp_path / "one")
    train_and_save(trainer, tmp_path / "one", checkpoint, "supervised")

    (tmp_path / "two.toml").write_text(toml(base, 2))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", str(free_port()), "-m", "--"]
    stage = ["training.grpo.supervised", str(tmp_path / "two.toml"), "--data-dir", str(answers_dir)]
    done = subprocess.run(
        [*launch, *stage, "--run", str(tmp_path / "two")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]

    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == NUM_STEPS
    assert one[-1] < 0.7 * one[0]
    # Sums in another order, in float32; another batch of the same size is 1e-2 away from the first step on.
    assert two == pytest.approx(one, rel=5e-4)
    told = json.loads((tmp_path / "two" / "checkpoint" / "training.json").read_text())
    assert (told["stage"], told["step"]) == ("supervised", NUM_STEPS)


def test_processes_that_claim_a_run_at_once_never_read_half_of_each_others_word(tmp_path: Path) -> None:
    config = SupervisedConfig(base_model="b", data=tuple(f"file {i}" for i in range(2000)))
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: claim_run(tmp_path / "run", config), range(200)):
            pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_accelerate_reads_the_configurations_of_several_nodes() -> None:
    sharded = load_config_from_file(str(CONFIGS / "qwen3_fsdp.yaml"))
    assert isinstance(sharded, ClusterConfig)
    assert (sharded.distributed_type, sharded.num_machines, sharded.num_processes) == (DistributedType.FSDP, 2, 16)
    options = {name.removeprefix("fsdp_"): value for name, value in sharded.fsdp_config.items()}
    layer = options.pop("transformer_layer_cls_to_wrap")
    names = {"offload_params": "cpu_offload", "version": "fsdp_version"}
    plugin = FullyShardedDataParallelPlugin(
        **{names.get(name, name): value for name, value in options.items()}, transformer_cls_names_to_wrap=[layer]
    )
    assert plugin.fsdp_version == 2
    copied = load_config_from_file(str(CONFIGS / "qwen3_two_nodes.yaml"))
    assert (copied.distributed_type, copied.num_processes) == (DistributedType.MULTI_GPU, 16)
