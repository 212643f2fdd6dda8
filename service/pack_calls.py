"""The engine calls of scoring, measured and checked: a batch in, what the model said of it out."""

import numpy as np
from numpy.typing import NDArray

from engine.base import Engine, PrefixKV
from service.metrics import Metrics
from service.side_work import Chosen, SideWork
from service.work import DocumentBatch, PrefixBatch


class PackCalls:
    """Runs batches on whichever engine it is given, in the engine thread, without any lock."""

    def __init__(self, metrics: Metrics, side: SideWork) -> None:
        """`side` says whose KV is kept."""
        self._metrics = metrics
        self._side = side

    def prefill(self, engine: Engine, batch: PrefixBatch) -> list[PrefixKV]:
        """KV of each prefix."""
        num_before = engine.num_row_tokens
        computed = engine.prefill_prefixes([prefix.ids for prefix in batch.prefixes])
        self._count_padding(engine, num_before + batch.num_tokens)
        self._metrics.prefix_batch_tokens.observe(batch.num_tokens)
        return computed

    def score(self, engine: Engine, batch: DocumentBatch) -> tuple[NDArray[np.float32], Chosen | None]:
        """Label logits [N, K], and what of the pack's KV to keep, if anybody asked.

        Raises:
            ValueError: the engine gave no finite logits for each document.
        """
        num_before = engine.num_row_tokens
        wanted = [self._side.wants_kv(document) for document in batch.documents]
        documents = [document.to_engine(keeps) for document, keeps in zip(batch.documents, wanted, strict=True)]
        label_logits, kept = engine.keep_documents(documents) if any(wanted) else (None, [])
        if label_logits is None:
            label_logits = engine.score_documents(documents)
        self._count_padding(engine, num_before + batch.num_tokens)
        _check_logits(label_logits, len(batch.documents))
        self._metrics.pack_documents.observe(len(batch.documents))
        self._metrics.pack_tokens.observe(batch.num_tokens)
        return label_logits, self._side.choose(batch.documents, label_logits, kept) if kept else None

    def _count_padding(self, engine: Engine, expected: int) -> None:
        self._metrics.padding_tokens.inc(max(0, engine.num_row_tokens - expected))


def _check_logits(label_logits: NDArray[np.float32], num_documents: int) -> None:
    if len(label_logits) != num_documents or not np.isfinite(label_logits).all():
        raise ValueError(f"label logits {label_logits.shape} for {num_documents} documents, or not all are finite")
