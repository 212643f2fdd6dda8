"""transformers and torch: inference mode, SDPA, batches sorted by length; float32, or all weights in bfloat16."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.grading import in_bfloat16, load_grading
from benchmarks.peers.peer import Files, Peer, Setting
from benchmarks.peers.prompts import Integers, PaddedPeer


def prepare(files: Files, setting: Setting) -> None:
    """Nothing: the checkpoint is there."""


def open_peer(files: Files, setting: Setting, threads: int, batch_tokens: int) -> Peer:
    """Load the checkpoint."""
    torch.set_num_threads(threads)
    loaded = load_grading(files)
    grading = in_bfloat16(loaded.grading) if setting.precision == "bf16" else loaded.grading

    def run(ids: Integers, segments: Integers, last: Integers) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = (
                grading(torch.from_numpy(ids), torch.from_numpy(segments), torch.from_numpy(last)).float().numpy()
            )
        return logits

    return PaddedPeer(run, loaded.encoder, batch_tokens)
