"""Checkpoints: a Hugging Face folder anyone can load, and the state a run resumes from.

    RUN/checkpoint/     weights, config.json, tokenizer.json, scoring_spec.json, training.json: what the export takes
    RUN/resume.pt       optimiser state and step
    RUN/log.jsonl       one JSON object per event

Both are written aside and renamed, so that a run killed while saving resumes from the save before.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from relevance.spec import SPEC_FILE, ScoringSpec


class RunLog:
    """Appends JSON lines to `RUN/log.jsonl`."""

    def __init__(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = run_dir / "log.jsonl"

    def write(self, **event: Any) -> None:
        """Append one event."""
        with self._path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(event) + "\n")


def save_checkpoint(
    folder: Path, model: PreTrainedModel, tokenizer_json: str, spec: ScoringSpec, training: dict[str, Any]
) -> None:
    """Write a complete checkpoint folder, replacing the one before; `training` says how it was made."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    (temporary / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    spec.to_file(temporary / SPEC_FILE)
    (temporary / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def save_resume(
    run_dir: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, step: int, config_json: str
) -> None:
    """Write all a killed run needs to go on at `step`."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    temporary = run_dir / "resume.pt.part"
    torch.save({"step": step, "config": config_json, "model": trained, "optimizer": optimizer.state_dict()}, temporary)
    temporary.replace(run_dir / "resume.pt")


def load_resume(run_dir: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer, config_json: str) -> int:
    """Restore `save_resume`'s state and return its step; 0 where there is none.

    Raises:
        ValueError: the run folder holds another configuration's run.
    """
    path = run_dir / "resume.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["config"] != config_json:
        raise ValueError(f"{run_dir} holds a run of another configuration; use a new folder or delete it")
    with torch.no_grad():
        parameters = dict(model.named_parameters())
        for name, value in state["model"].items():
            parameters[name].copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
