"""A sentence encoder that became an answer-first decoder and kept its similarity.

    layers 0 .. E-1   the encoder as it was: under `late` attention query and document do not see each other here
    comparison        f = H * norm(mean of the query's states) * norm(mean of the document's states), elementwise
    layers E .. L-1   the joint layers: they read the states in front of encoder layer J = `joint_from`, the document
                      sees the query, the reader (the token the grade is read at) sees both
    joint input       states + mark for the document's tokens + W f for the reader
    grade logits      G h + A f + b, with h the reader's last state: for the first token of the answer alone

The mean of f over its H entries is the cosine similarity of the two texts as the sentence encoder gives it. A and b
start as P(grade | cosine) and G and W as zero, so that grading starts from what the encoder knows, and keeps a
straight way to it. The joint layers start as copies of encoder layers J .. E-1: they may bend to read a query and a
document together while the encoder beside them stays as it is (fine-tuned, it loses its similarity: docs/log.md). The
mark tells a document's words from the same words of the query. The encoder's states of a document do not depend on the
query.
"""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertLMHeadModel

# logit k - logit k-1 = SLOPE (cosine - threshold k), about what similarity labels are fitted with (docs/log.md).
_SLOPE = 9.0
_THRESHOLDS = (0.42, 0.54, 0.75)
# Nats by which the grades' tokens start ahead of the vocabulary: the first token is a grade from the start.
_LABEL_BIAS = 12.0
# Of the mark, beside states of 0.2 to 0.6.
_MARK_DEVIATION = 0.1


class LateBertConfig(BertConfig):  # type: ignore[misc]
    """A BERT decoder whose first `num_encoder_layers` layers keep query and document apart."""

    model_type = "late_bert"

    num_encoder_layers: int = 6
    joint_from: int = 0
    """Which encoder layer's input the joint layers read."""
    label_token_ids: tuple[int, ...] | list[int] = ()
    """The grades' tokens, in order."""


class LateBertForGrading(BertLMHeadModel):  # type: ignore[misc]
    """The model; `modeling.forward` runs it (its plain Hugging Face forward knows neither segments nor comparison)."""

    config_class = LateBertConfig

    def __init__(self, config: LateBertConfig) -> None:
        super().__init__(config)
        self.document_mark = nn.Parameter(torch.randn(config.hidden_size) * _MARK_DEVIATION)
        self.comparison = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.label_comparison = nn.Linear(config.hidden_size, len(config.label_token_ids))
        self.label_head = nn.Linear(config.hidden_size, len(config.label_token_ids), bias=False)
        self.post_init()


AutoConfig.register(LateBertConfig.model_type, LateBertConfig)
AutoModelForCausalLM.register(LateBertConfig, LateBertForGrading)


def compare(states: Tensor, query_mask: Tensor, document_mask: Tensor) -> Tensor:
    """f [B, H] of the module docstring in float32, from states [B, L, H] and masks [B, L] of the two texts' tokens."""
    query, document = _mean(states.float(), query_mask), _mean(states.float(), document_mask)
    normalize = nn.functional.normalize
    return query.shape[-1] * normalize(query, dim=-1, eps=1e-6) * normalize(document, dim=-1, eps=1e-6)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(states.dtype)[:, :, None]
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1.0)


@torch.no_grad()
def start_comparison(model: LateBertForGrading) -> None:
    """Set grading to its start, P(grade | cosine); the rest of the model is loaded."""
    config = model.config
    num_labels = len(config.label_token_ids)
    steps = torch.arange(num_labels, dtype=torch.float32)
    thresholds = torch.tensor([0.0, *_THRESHOLDS]) if num_labels == 4 else steps / num_labels
    model.label_comparison.weight.copy_(_SLOPE * steps[:, None].expand(-1, config.hidden_size) / config.hidden_size)
    model.label_comparison.bias.copy_(_LABEL_BIAS - _SLOPE * thresholds.cumsum(0))
    model.label_head.weight.zero_()
    model.comparison.weight.zero_()
