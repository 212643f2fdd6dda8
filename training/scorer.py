"""Grades of a checkpoint in torch: what training validates with, calibration fits on, and teachers label with."""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from modeling.float32_attention import use_float32_attention
from modeling.forward import first_token_logits, prompt_states, vocabulary_logits
from relevance.attention import Attention
from training.data import Example, pad, token_batches


@dataclass(frozen=True, slots=True)
class BatchLogits:
    """What a batch of B pairs and their T explanation tokens was predicted to be, and is."""

    first: torch.Tensor  # [B, V]
    target: torch.Tensor  # [B, K]
    explanation: torch.Tensor  # [T, V]
    tokens: torch.Tensor  # [T]


class CheckpointScorer:
    """A model with the token ids it spells grades with."""

    def __init__(
        self, model: PreTrainedModel, attention: Attention, label_token_ids: Sequence[int], *, bfloat16: bool
    ) -> None:
        made_for = tuple(getattr(model.config, "label_token_ids", label_token_ids))
        if made_for != tuple(label_token_ids):
            raise ValueError(f"the model was made for grades spelt {made_for}, the spec spells them {label_token_ids}")
        if bfloat16:
            use_float32_attention(model)
        self.model, self.attention, self._bfloat16 = model, attention, bfloat16
        self.label_token_ids = torch.tensor(label_token_ids)

    def forward(self, batch: Sequence[Example]) -> BatchLogits:
        """Logits in float32, with gradients, of each first token and of the explanations there are."""
        padded = pad(batch)
        input_ids, segment_ids = torch.from_numpy(padded.input_ids), torch.from_numpy(padded.segment_ids)
        rows, columns = torch.from_numpy(padded.answer_rows), torch.from_numpy(padded.answer_columns)
        with torch.autocast("cpu", dtype=torch.bfloat16) if self._bfloat16 else nullcontext():
            states = prompt_states(self.model, input_ids, segment_ids, self.attention)
            first = first_token_logits(self.model, states, torch.from_numpy(padded.last))
            explanation = vocabulary_logits(self.model, states.hidden[rows, columns])
        target, tokens = torch.from_numpy(padded.target), torch.from_numpy(padded.answer_targets)
        return BatchLogits(first.float(), target, explanation.float(), tokens)

    @torch.inference_mode()
    def label_logits(self, examples: Sequence[Example], batch_tokens: int = 8192) -> NDArray[np.float32]:
        """Label logits [N, K] in the order of `examples`; answers are not looked at."""
        self.model.eval()
        rows = {id(example): index for index, example in enumerate(examples)}
        out = np.zeros((len(examples), len(self.label_token_ids)), dtype=np.float32)
        for batch in token_batches(examples, batch_tokens, random.Random(0)):
            logits = self.forward(batch).first
            out[[rows[id(example)] for example in batch]] = logits[:, self.label_token_ids].numpy()
        return out
