"""The 0.6B shape: a checkpoint with random weights and its int8 artifact, made once in the work folder.

Random grades are near ties, so the export's order check (Kendall's tau) is loosened; its other thresholds stand.
"""

from pathlib import Path

from model_export.__main__ import override_thresholds
from model_export.publish import ExportOptions, export
from model_export.random_checkpoint import write_checkpoint

NUM_PARITY_PAIRS = 16


def make_checkpoint(folder: Path, shape: str, tokenizer: Path | None) -> None:
    """Write the checkpoint where there is none; SystemExit without a tokenizer to write it with."""
    if (folder / "config.json").is_file():
        return
    if tokenizer is None:
        raise SystemExit("--tokenizer FILE: a Qwen3 tokenizer.json, to make the model with")
    write_checkpoint(folder, shape, tokenizer)


def make_artifact(checkpoint: Path, folder: Path) -> None:
    """Export it to int8 where that has not been done."""
    if folder.is_dir():
        return
    export(
        ExportOptions(
            checkpoint=str(checkpoint),
            out=folder,
            precision="int8",
            command="python -m benchmarks.peers qwen",
            thresholds=override_thresholds(["int8.kendall_tau=0", "int8.decided_flips=1"]),
            name="qwen3-0.6b-random",
            num_pairs=NUM_PARITY_PAIRS,
        )
    )
