"""The arms: the same small policy trained in every way worth comparing, over several seeds.

    python -m training.arms.catalogue DIR
    python -m training.arms configs/training/arms.toml --data-dir DIR [--run runs/arms] [--out results/arms.json]

Resumable per arm and seed: what is in the run folder is not trained again. Several processes may share a run folder,
each with seeds of its own (`--seeds`); `--collect` then makes the result of what is there, and `seeds` of each arm says
over which it is.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from tqdm import tqdm

from relevance.provenance import command_line, write_result
from training.arms.catalogue import GRADE_OF, RARE, SHARES
from training.arms.config import ArmsConfig
from training.arms.train import Bench

PACKAGES = ("numpy", "torch", "transformers", "trl")


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation over seeds (0 of one) and the values."""
    return {
        "mean": fmean(values),
        "std": stdev(values) if len(values) > 1 else 0.0,
        "values": [round(value, 4) for value in values],
    }


def summarise(runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """One arm over its seeds: every figure and rule with spread, the learning curves as they are."""
    rows = [runs[seed] for seed in sorted(runs)]
    return {
        "seeds": sorted(runs),
        "figures": {name: spread([row["figures"][name] for row in rows]) for name in rows[0]["figures"]},
        "rules": {name: spread([row["rules"][name] for row in rows]) for name in rows[0]["rules"]},
        "curves": [row["curve"] for row in rows],
        "train_cpu_s": spread([row["train_cpu_s"] for row in rows]),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not there yet, then write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m training.arms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/arms"))
    parser.add_argument("--out", type=Path, help="write a results file")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="of the configuration's seeds only these: one process each"
    )
    parser.add_argument("--collect", action="store_true", help="train nothing: the result of what is there")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # matrices this small gain nothing from a second
    config = ArmsConfig.from_toml(args.config)
    bench = Bench(config, args.data_dir, args.run)
    runs: dict[str, dict[int, dict[str, Any]]] = {arm.name: {} for arm in config.arms}
    if not args.collect:
        bench.prepare()
    for seed, arm in tqdm([(s, a) for s in args.seeds or config.seeds for a in config.arms], unit="arm"):
        if args.collect and not (bench.folder(arm.name, seed) / "figures.json").is_file():
            continue
        runs[arm.name][seed] = found = bench.run(arm, seed)
        shown = {k: round(found["figures"][k], 3) for k in ("accuracy", "macro_f1", "rare_recall", "grade_entropy")}
        tqdm.write(f"{arm.name} seed {seed} {shown}")
    result = {
        "config": config.model_dump(mode="json"),
        "rules": {rule: {"grade": GRADE_OF[rule], "share": SHARES[rule], "rare": rule in RARE} for rule in SHARES},
        "arms": {a.name: {"says": a.says, **summarise(runs[a.name])} for a in config.arms if runs[a.name]},
    }
    if args.out is not None:
        write_result(args.out, command_line("training.arms", sys.argv[1:] if argv is None else argv), result, PACKAGES)
    print(json.dumps({name: row["figures"]["macro_f1"]["mean"] for name, row in result["arms"].items()}))


if __name__ == "__main__":
    main()
