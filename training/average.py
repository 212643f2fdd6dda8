"""The mean of several checkpoints' weights, one model that is often better than each of them.

    python -m training.average runs/teacher/checkpoint runs/teacher_taught/checkpoint --run runs/teacher_mean

Wortsman et al., "Model soups" (ICML 2022, arXiv 2203.05482): weights fine-tuned from one start, on different data or
with different settings, lie in one basin, where their mean generalises better than the ends. Checkpoints must be of
one form, with the same tokenizer and the same scoring spec but for the temperature; that of the mean has to be fitted
anew (`training.calibrate`).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from modeling.loading import load_model
from relevance.provenance import current_commit, versions
from relevance.spec import SPEC_FILE, ScoringSpec
from training.checkpoint import save_checkpoint

TOKENIZER_FILE = "tokenizer.json"


class AverageError(ValueError):
    """Checkpoints that have no mean."""


def average_weights(models: Sequence[PreTrainedModel]) -> PreTrainedModel:
    """The first of `models`, with the mean of everybody's weights in it.

    Raises:
        AverageError: fewer than two, or they differ in their parameters' names or shapes.
    """
    if len(models) < 2:
        raise AverageError(f"a mean takes two checkpoints or more, got {len(models)}")
    states = [model.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    for number, found in enumerate(shapes[1:], start=2):
        if found != shapes[0]:
            different = sorted(name for name in {*found, *shapes[0]} if found.get(name) != shapes[0].get(name))
            raise AverageError(f"checkpoint {number} is of another form than the first: {', '.join(different[:5])}")
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    models[0].load_state_dict(mean)
    return models[0]


def check_specs(checkpoints: Sequence[Path]) -> ScoringSpec:
    """The scoring spec that all share, at temperature 1.

    Raises:
        AverageError: they differ, in it or in their tokenizers.
    """
    specs = [ScoringSpec.from_file(path / SPEC_FILE).model_copy(update={"temperature": 1.0}) for path in checkpoints]
    tokenizers = [(path / TOKENIZER_FILE).read_bytes() for path in checkpoints]
    for path, spec, tokenizer in zip(checkpoints[1:], specs[1:], tokenizers[1:], strict=True):
        if spec != specs[0] or tokenizer != tokenizers[0]:
            what = "scoring spec" if spec != specs[0] else "tokenizer"
            raise AverageError(f"{path}: another {what} than {checkpoints[0]}'s")
    return specs[0]


def provenance_of(checkpoint: Path) -> dict[str, object]:
    """What the checkpoint says of its training."""
    path = checkpoint / "training.json"
    found: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Average and write `RUN/checkpoint`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--run", type=Path, required=True)
    args = parser.parse_args(argv)
    spec = check_specs(args.checkpoints)
    model = average_weights([load_model(str(path)) for path in args.checkpoints])
    told = {
        "stage": "average",
        "commit": current_commit(),
        "versions": versions(("torch", "transformers")),
        "of": [provenance_of(path) for path in args.checkpoints],
    }
    out = args.run / "checkpoint"
    args.run.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out, model, (args.checkpoints[0] / TOKENIZER_FILE).read_text(encoding="utf-8"), spec, told)
    print(json.dumps({"checkpoint": str(out), "averaged": len(args.checkpoints)}))


if __name__ == "__main__":
    main()
