"""Which scored pairs are worth their KV: the best of each request, since whoever asks why asks of what came first.

A request that says somebody may ask has at most MAX_KEPT_PAIRS of its pairs kept, those of the highest expected grade
so far, so that a request of a thousand documents does not push everybody else's out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.base import PromptKV
from relevance.scoring import expected_score, grade_distribution
from service.side_work import Chosen
from service.work import Prompt, ScoreWork, WaitingDocument

MAX_KEPT_PAIRS = 8


def choose_kept(
    documents: Sequence[WaitingDocument], label_logits: NDArray[np.float32], kept: Sequence[PromptKV | None]
) -> Chosen:
    """The pairs of a pack to keep, copied, and those that they displace.

    `kept` has the KV of the documents that were wanted, maybe as views of the whole pack's.
    """
    chosen = Chosen()
    scores = expected_score(grade_distribution(label_logits)).tolist()
    for document, score, kv in zip(documents, scores, kept, strict=True):
        if kv is None:
            continue
        prompt = document.prompt
        lost = [_rank(work, score, prompt) for work in document.waiters if work.terms.keeps_kv]
        if any(one is not prompt for one in lost):
            chosen.added.append((prompt, kv.copy()))
            chosen.dropped += [one for one in lost if one is not None and one is not prompt]
    return chosen


def _rank(work: ScoreWork, score: float, prompt: Prompt) -> Prompt | None:
    """Put a pair among the best of its request; returns the one that has no place any more, if any."""
    work.kept.append((score, prompt))
    if len(work.kept) <= MAX_KEPT_PAIRS:
        return None
    work.kept.sort(key=lambda one: one[0], reverse=True)
    return work.kept.pop()[1]
