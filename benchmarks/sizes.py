"""Quality against size: models of the same recipe and length of training, by the validation figures of their runs.

    python -m benchmarks.sizes RUN [RUN ...] [--out results/sizes.json]

Nothing is computed here: a run's log holds its last validation, its checkpoint the weights that are counted.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeling.loading import load_model
from relevance.provenance import command_line, write_result

_KEPT = ("accuracy", "macro_f1", "qwk", "ndcg_at_10", "ece", "num_pairs", "num_queries")


def describe_run(run: Path) -> dict[str, Any]:
    """Size, steps and last validation of one run folder.

    Raises:
        ValueError: its log holds no validation.
    """
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [event for event in events if event["event"] == "validation"]
    if not found:
        raise ValueError(f"{run.name}: no validation in its log")
    step = found[-1]["step"]
    model = load_model(str(run / "checkpoint"))
    outside = sum(p.numel() for name, p in model.named_parameters() if "embeddings" not in name)
    last = [event for event in found if event["step"] == step]
    return {
        "num_layers": model.config.num_hidden_layers,
        "num_parameters_outside_embedding": outside,
        "num_steps": step,
        "validation": {Path(event["file"]).parent.name: {key: event[key] for key in _KEPT} for event in last},
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Read the runs, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path("results/sizes.json"))
    args = parser.parse_args(argv)
    figures = {"runs": [describe_run(run) for run in args.runs]}
    runs = [f"runs/{run.name}" for run in args.runs]
    write_result(args.out, command_line("benchmarks.sizes", runs), figures, ("torch", "transformers"))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
