"""Answers token by token, many prompts at once: the prompt is computed once, each token reads its keys and values."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from modeling.forward import (
    PADDING,
    first_token_logits,
    next_hidden_states,
    position_ids,
    prompt_states,
    vocabulary_logits,
)
from relevance.attention import Attention


class AnswerDecoder:
    """One batch of prompts and the answers grown behind them; greedy or sampled is the caller's affair."""

    def __init__(self, model: PreTrainedModel, attention: Attention) -> None:
        self._model, self._attention = model, attention

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]], segments: Sequence[Sequence[int]]) -> Tensor:
        """Next-token logits [B, V] behind B prompts of ids, with the segment of each token."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts])
        kinds = torch.tensor([[*row, *[PADDING] * (width - len(row))] for row in segments])
        self._cache = DynamicCache(config=self._model.config)
        states = prompt_states(self._model, ids, kinds, self._attention, self._cache)
        rows = torch.arange(len(prompts))
        self._visible = kinds >= 0
        self._positions = position_ids(kinds, self._attention)[rows, lengths - 1]
        return first_token_logits(self._model, states, lengths - 1)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Next-token logits [B, V] once each answer has grown by its token of `tokens` [B]."""
        self._positions = self._positions + 1
        self._visible = torch.cat([self._visible, torch.ones(len(tokens), 1, dtype=torch.bool)], 1)
        hidden = next_hidden_states(self._model, tokens[:, None], self._visible, self._positions[:, None], self._cache)
        return vocabulary_logits(self._model, hidden[:, 0])
