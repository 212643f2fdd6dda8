"""Losses: tensors in, one scalar out, nothing else.

    L = L_grade + w L_explanation

Under one mean over all tokens a long explanation would leave the grade token under 1 % of the gradient; each part has
its own mean instead.
"""

import torch


def first_token_cross_entropy(
    vocabulary_logits: torch.Tensor, target: torch.Tensor, label_token_ids: torch.Tensor
) -> torch.Tensor:
    """Mean over pairs of - sum_k t_k log softmax_V(z)[label token k].

    Logits [B, V], target distribution over grades [B, K], label token ids [K]. The softmax runs over the whole
    vocabulary, so probability on any token that is no grade is penalised as well.
    """
    log_probabilities = torch.log_softmax(vocabulary_logits, dim=-1)[:, label_token_ids]
    return -(target * log_probabilities).sum(-1).mean()


def explanation_cross_entropy(vocabulary_logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Mean over explanation tokens of - log softmax_V(z)[token]: logits [T, V], tokens [T]; 0 if there are none."""
    if not len(tokens):
        return vocabulary_logits.sum() * 0.0
    return torch.nn.functional.cross_entropy(vocabulary_logits, tokens)
