"""Train in stages chosen by measured difficulty: synthetic and easy, then broad, then hard and rare, with replay.

    python -m training.curriculum configs/training/curriculum.toml --data-dir DIR --run runs/curriculum [--plan-only]

Every row's difficulty is the lack of confidence of a trained checkpoint in its gold grade. The same command goes on
where a run stopped. Last line: JSON.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from training.curriculum.config import CurriculumConfig
from training.curriculum.difficulty import measure
from training.curriculum.plan import plan, stage_figures
from training.curriculum.stages import claim_folder, run_curriculum


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is left of a curriculum, or show its plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--plan-only", action="store_true", help="measure and show the stages; train nothing")
    args = parser.parse_args(argv)
    config = CurriculumConfig.from_toml(args.config)
    if args.plan_only:
        claim_folder(config, args.run)
        rows = measure(config, args.data_dir, args.run / "difficulty.jsonl")
        planned = zip(config.stages, plan(rows, config), strict=True)
        figures = [stage_figures(rows, indices, stage) for stage, indices in planned]
    else:
        figures = run_curriculum(config, args.data_dir, args.run)
    for row in figures:
        print(
            f"{row['stage']:<16}{row['num_rows']:>7} rows, difficulty {row['difficulty']['mean']:.3f}, "
            f"{row['wrong']:.0%} got wrong, {row['long_tail']:.0%} long tail, {row['synthetic']:.0%} synthetic"
        )
    print(json.dumps({"stages": len(figures), "checkpoint": None if args.plan_only else "checkpoint"}))


if __name__ == "__main__":
    main()
