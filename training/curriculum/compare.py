"""What the order of a curriculum is worth: the same rows, steps and schedules, in stages or shuffled.

    python -m training.curriculum.compare CONFIG --data-dir DIR --run DIR --seeds 0 1 2 [--result FILE]

    curriculum   the stages of the configuration
    shuffled     all rows of all stages, replay included, shuffled and cut into stages of the same sizes

Both arms train on the same rows, each as often, with the same learning rates in the same order, so that tokens are
equal and the order of rows is all that differs. Per arm and seed a run of its own, resumable; figures are those on the
validation files after the last stage, as mean and sample standard deviation over seeds, and their paired difference.
"""

import argparse
import json
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relevance.provenance import command_line, write_result
from training.curriculum.config import CurriculumConfig
from training.curriculum.difficulty import measure
from training.curriculum.plan import plan, stage_figures
from training.curriculum.stages import claim_folder, run_stages

FIGURES = ("accuracy", "macro_f1", "qwk", "ndcg_at_10", "ece")


def shuffle_stages(stages: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    """The same rows in stages of the same sizes, in any order."""
    rows = [index for stage in stages for index in stage]
    random.Random(f"{seed}/shuffle").shuffle(rows)
    shuffled, start = [], 0
    for stage in stages:
        shuffled.append(rows[start : start + len(stage)])
        start += len(stage)
    return shuffled


def summarise(by_seed: Sequence[dict[str, dict[str, dict[str, float]]]]) -> dict[str, Any]:
    """Mean and standard deviation of each arm, and of the paired difference, per file and figure."""
    summary: dict[str, Any] = {}
    for name in by_seed[0]["curriculum"]:
        for figure in FIGURES:
            arms = {arm: [seed[arm][name][figure] for seed in by_seed] for arm in ("curriculum", "shuffled")}
            gaps = [left - right for left, right in zip(arms["curriculum"], arms["shuffled"], strict=True)]
            summary.setdefault(name, {})[figure] = {
                arm: {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}
                for arm, values in {**arms, "difference": gaps}.items()
            }
    return summary


def main(argv: Sequence[str] | None = None) -> None:
    """Run both arms for every seed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--result", type=Path, help="write a results file")
    args = parser.parse_args(argv)
    base = CurriculumConfig.from_toml(args.config)
    by_seed: list[dict[str, dict[str, dict[str, float]]]] = []
    planned: list[dict[str, Any]] = []
    for seed in args.seeds:
        config = base.model_copy(update={"seed": seed})
        folder = args.run / f"seed-{seed}"
        claim_folder(config, folder)
        rows = measure(config, args.data_dir, folder / "difficulty.jsonl")
        stages = plan(rows, config)
        planned = [stage_figures(rows, indices, s) for s, indices in zip(config.stages, stages, strict=True)]
        arms = {"curriculum": stages, "shuffled": shuffle_stages(stages, seed)}
        by_seed.append(
            {
                arm: run_stages(config, rows, order, args.data_dir, folder / arm)[-1]["validation"]
                for arm, order in arms.items()
            }
        )
    summary = summarise(by_seed)
    result = {"config": base.model_dump(), "seeds": args.seeds, "stages": planned, "figures": summary, "runs": by_seed}
    if args.result is not None:
        command = command_line("training.curriculum.compare", sys.argv[1:] if argv is None else argv)
        write_result(args.result, command, result, ("numpy", "torch", "transformers"))
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
