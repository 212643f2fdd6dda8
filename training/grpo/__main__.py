"""Stepwise-GRPO with a supervised anchor: policy learning from a supervised checkpoint.

    python -m training.grpo configs/training/qwen3_0.6b_grpo.toml --data-dir DIR --run runs/answers-grpo

The log (RUN/log.jsonl) has the reward of every segment, the entropy of the grade token, KL, the share of groups that
agree on one grade, the anchor's weight and loss. The same command goes on from the last state.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from training.grpo.config import PolicyConfig
from training.grpo.policy import build
from training.grpo.stage import train_and_save


def main(argv: Sequence[str] | None = None) -> None:
    """Run one configuration to its end, or on from where it stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m training.grpo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args(argv)
    trainer, base = build(PolicyConfig.from_toml(args.config), args.data_dir, args.run)
    train_and_save(trainer, args.run, base, "grpo")
    print(json.dumps({"step": trainer.state.global_step, "checkpoint": str(args.run / "checkpoint")}))


if __name__ == "__main__":
    main()
