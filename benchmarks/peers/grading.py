"""A checkpoint as one torch module that peers run or convert: padded prompts in, label logits out.

Only the grades' rows of the vocabulary head are computed, and only at the position the grade is read at: whoever takes
a peer seriously would do that, and it is what ours does. Causal models run without a mask (padding is on the right),
so that the fused causal attention is used; the others with the mask of `modeling.forward`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.peers.peer import Files
from model_export.checkpoint import Checkpoint, load_checkpoint
from modeling.forward import prompt_states
from modeling.late_bert import LateBertForGrading
from relevance.prompt import PromptEncoder


class Grading(torch.nn.Module):
    """Label logits [B, K] of padded prompts."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = checkpoint.model
        self._attention = checkpoint.spec.attention
        self._is_plain_causal = checkpoint.architecture == "qwen3"
        self._labels = list(checkpoint.label_token_ids)
        if self._is_plain_causal:
            head = self.model.get_output_embeddings().weight[self._labels].detach().clone()
            self.register_buffer("label_rows", head)

    def forward(self, ids: Tensor, segments: Tensor, last: Tensor) -> Tensor:
        """From token ids [B, L], segment ids [B, L] and the positions read [B]."""
        rows = torch.arange(ids.shape[0], device=ids.device)
        if self._is_plain_causal:
            hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state[rows, last]
            return torch.nn.functional.linear(hidden, self.label_rows)
        states = prompt_states(self.model, ids, segments, self._attention)
        hidden = states.hidden[rows, last]
        if isinstance(self.model, LateBertForGrading) and states.compared is not None:
            weight = self.model.label_head.weight
            compared = states.compared.to(weight.dtype)
            return self.model.label_head(hidden) + self.model.label_comparison(compared)
        logits: Tensor = self.model.cls(hidden)[:, self._labels]
        return logits


class _Casting(torch.nn.Module):
    """A layer that takes what it is given in the type of its weights."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.layer(values.to(self.layer.weight.dtype))
        return found


def in_bfloat16(grading: Grading) -> Grading:
    """All weights in bfloat16; the comparison of two texts, which stays in float32, is cast where a layer reads it."""
    if isinstance(grading.model, LateBertForGrading):
        grading.model.comparison = _Casting(grading.model.comparison)
    return grading.to(torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint ready to be run."""

    grading: Grading
    encoder: PromptEncoder
    sha256: str


def load_grading(files: Files) -> Loaded:
    """The checkpoint in float32."""
    checkpoint = load_checkpoint(str(files.checkpoint), files.spec)
    encoder = checkpoint.spec.encoder(checkpoint.tokenizer)
    return Loaded(Grading(checkpoint).eval(), encoder, checkpoint.sha256)
