"""Grades of a checkpoint in torch: what training validates with, calibration fits on, and teachers label with."""

import random
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from modeling.forward import next_token_logits
from relevance.attention import Attention
from training.data import Example, pad, token_batches


class CheckpointScorer:
    """A model with the token ids it spells grades with."""

    def __init__(
        self, model: PreTrainedModel, attention: Attention, label_token_ids: Sequence[int], *, bfloat16: bool
    ) -> None:
        self.model, self._attention, self._bfloat16 = model, attention, bfloat16
        self.label_token_ids = torch.tensor(label_token_ids)

    def vocabulary_logits(self, batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        """Next-token logits [B, V] (float32) and target distributions [B, K] of a batch, with gradients."""
        padded = pad(batch)
        input_ids, segment_ids = torch.from_numpy(padded.input_ids), torch.from_numpy(padded.segment_ids)
        last = torch.from_numpy(padded.last)
        with torch.autocast("cpu", dtype=torch.bfloat16) if self._bfloat16 else nullcontext():
            logits = next_token_logits(self.model, input_ids, segment_ids, last, self._attention)
        return logits.float(), torch.from_numpy(padded.target)

    @torch.inference_mode()
    def label_logits(self, examples: Sequence[Example], batch_tokens: int = 8192) -> NDArray[np.float32]:
        """Label logits [N, K] in the order of `examples`."""
        self.model.eval()
        rows = {id(example): index for index, example in enumerate(examples)}
        out = np.zeros((len(examples), len(self.label_token_ids)), dtype=np.float32)
        for batch in token_batches(examples, batch_tokens, random.Random(0)):
            logits, _ = self.vocabulary_logits(batch)
            out[[rows[id(example)] for example in batch]] = logits[:, self.label_token_ids].numpy()
        return out
