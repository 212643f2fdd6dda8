"""A sentence encoder that became an answer-first decoder and kept its similarity.

    layers 0 .. E-1   the encoder as it was: under `late` attention query and document do not see each other here
    comparison        f = H * norm(mean of query keys) * norm(mean of document keys), elementwise
    layers E .. L-1   the document sees the query; the reader (the token the grade is read at) sees both, and W f
    grade logits      G h + A f + b, with h the reader's last state: for the first token of the answer alone

The keys are those of layer E, whose key projection starts as the identity: the mean of f over its H entries is then
the cosine similarity of the two texts as the sentence encoder gives it. A and b start as P(grade | cosine) and G as
zero, so that grading starts from what the encoder knows, instead of finding it again, and keeps a straight way to it:
what an untrained vocabulary head says of grades is noise. No gradient flows from f into the encoder: few queries would
bend it. A document's states in the lower layers do not depend on the query. The added layers start near the identity
(their outputs are closed).
"""

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertLMHeadModel

# Of the direction of rising grades in the reader's state, per unit of cosine.
_COMPARISON_GAIN = 4.0
# logit k - logit k-1 = SLOPE (cosine - threshold k), about what similarity labels are fitted with (docs/log.md).
_SLOPE = 9.0
_THRESHOLDS = (0.42, 0.54, 0.75)
# Nats by which the grades' tokens start ahead of the vocabulary: the first token is a grade from the start.
_LABEL_BIAS = 12.0
# Added layers attend by similarity of states: scores of cosine 1 are about this, summed over no head.
_ATTENTION_SHARPNESS = 3.0


class LateBertConfig(BertConfig):  # type: ignore[misc]
    """A BERT decoder whose first `num_encoder_layers` layers keep query and document apart."""

    model_type = "late_bert"

    num_encoder_layers: int = 6
    label_token_ids: tuple[int, ...] | list[int] = ()
    """The grades' tokens, in order."""


class LateBertForGrading(BertLMHeadModel):  # type: ignore[misc]
    """The model; `modeling.forward` runs it (its plain Hugging Face forward knows neither segments nor comparison)."""

    config_class = LateBertConfig

    def __init__(self, config: LateBertConfig) -> None:
        super().__init__(config)
        self.comparison = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.label_comparison = nn.Linear(config.hidden_size, len(config.label_token_ids))
        self.label_head = nn.Linear(config.hidden_size, len(config.label_token_ids), bias=False)
        self.post_init()


AutoConfig.register(LateBertConfig.model_type, LateBertConfig)
AutoModelForCausalLM.register(LateBertConfig, LateBertForGrading)


def compare(keys: Tensor, query_mask: Tensor, document_mask: Tensor) -> Tensor:
    """f [B, H] of the module docstring in float32, from keys [B, L, H] and masks [B, L] of the two texts' tokens."""
    query, document = _mean(keys.float(), query_mask), _mean(keys.float(), document_mask)
    normalize = nn.functional.normalize
    return query.shape[-1] * normalize(query, dim=-1, eps=1e-6) * normalize(document, dim=-1, eps=1e-6)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(states.dtype)[:, :, None]
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1.0)


@torch.no_grad()
def start_added_layers(model: LateBertForGrading) -> None:
    """Set the layers above the encoder and the comparison to their start; the rest of the model is loaded."""
    config = model.config
    identity = torch.eye(config.hidden_size)
    for index in range(config.num_encoder_layers, config.num_hidden_layers):
        layer = model.bert.encoder.layer[index]
        attention = layer.attention.self
        for projection in (attention.query, attention.key, attention.value):
            projection.weight.copy_(identity)
            projection.bias.zero_()
        attention.query.weight.mul_(_ATTENTION_SHARPNESS)
        for closed in (layer.attention.output.dense, layer.output.dense):
            closed.weight.mul_(0.05)
            closed.bias.zero_()
        for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1.0)
            norm.bias.zero_()
    labels = model.get_input_embeddings().weight[list(config.label_token_ids)]
    rising = torch.linalg.pinv(labels - labels.mean(0)) @ torch.linspace(-1.0, 1.0, len(labels))
    rising = rising - rising.mean()
    gain = _COMPARISON_GAIN * rising / rising.norm()
    model.comparison.weight.copy_(gain[:, None].expand(-1, config.hidden_size) / config.hidden_size)
    steps = torch.arange(len(labels), dtype=torch.float32)
    thresholds = torch.tensor([0.0, *_THRESHOLDS]) if len(labels) == 4 else steps / len(labels)
    model.label_comparison.weight.copy_(_SLOPE * steps[:, None].expand(-1, config.hidden_size) / config.hidden_size)
    model.label_head.weight.zero_()
    model.label_comparison.bias.copy_(_LABEL_BIAS - _SLOPE * thresholds.cumsum(0))
