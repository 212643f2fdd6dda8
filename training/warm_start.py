"""A warm start that already compares: a sentence encoder plus two layers that compute a cosine.

Under `isolated` attention the encoder's own layers encode query and document exactly as the sentence encoder does.
Two layers on top are set, not trained, so that the token the grade is read at knows how near the two are:

    layer L + 1   every token attends evenly to its own segment, so that its LayerNorm holds the segment's mean, of
                  length sqrt(H) whatever the text: the normalised embedding. The reader (the last token) attends to
                  itself. Two ramps of the feed-forward part mark the first token of each segment, along `mark`, and
                  the reader, along `anchor`: directions in which no hidden state varies.
    layer L + 2   the reader attends to the two marked tokens alike and adds m = (q + d) / 2 to itself. Its LayerNorm
                  divides by |anchor part + m|, and |m|^2 = H (1 + cos(q, d)) / 2: the nearer the texts, the less is
                  left of `anchor`, which a linear head can read.

Training starts there, and changes every weight. Linear discriminants for "first token" and "reader" are fitted on
encoded pairs of the training data.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import BertLMHeadModel
from transformers.models.bert.modeling_bert import BertLayer

from relevance.attention import Attention
from training.data import Example, pad
from training.model import attention_mask, position_ids

NUM_COMPARING_LAYERS = 2

_POOL_GAIN = 4.0  # of the segment mean, beside the token itself
_FIRST_MARK, _ANCHOR = 10.0, 120.0  # lengths, beside hidden states of length sqrt(H)
_RAMP = 60.0  # slope of the ramps: steep beside the gap between classes
_SELF_ATTENTION = 12.0  # squared over sqrt(head size), the reader's score for itself
_READING = 1.0  # of the direction of rising grades, per standard deviation of what is read
_FIRST_ATTENTION = 11.0  # log of how much more a marked token weighs than another


class _States:
    """Hidden states of calibration examples after a layer, by kind of token."""

    def __init__(self, model: BertLMHeadModel, examples: Sequence[Example], attention: Attention, layer: int) -> None:
        first: list[Tensor] = []
        reader: list[Tensor] = []
        other: list[Tensor] = []
        for start in range(0, len(examples), 32):
            padded = pad(examples[start : start + 32])
            segments, ids = torch.from_numpy(padded.segment_ids), torch.from_numpy(padded.input_ids)
            hidden = model.bert(
                input_ids=ids,
                attention_mask=attention_mask(segments, attention),
                position_ids=position_ids(segments, attention),
                use_cache=False,
                output_hidden_states=True,
            ).hidden_states[layer]
            is_first = (position_ids(segments, attention) == 0) & (segments >= 0)
            is_reader = torch.zeros_like(is_first)
            is_reader[torch.arange(len(ids)), torch.from_numpy(padded.last)] = True
            first.append(hidden[is_first])
            reader.append(hidden[is_reader])
            other.append(hidden[(segments >= 0) & ~is_first & ~is_reader][::3])
        self.first, self.reader, self.other = torch.cat(first), torch.cat(reader), torch.cat(other)


def discriminant(positive: Tensor, negative: Tensor, shrinkage: float = 0.05) -> tuple[Tensor, Tensor]:
    """Fisher's linear discriminant: w [H] and b such that w x - b is +1/2 at the one mean and -1/2 at the other."""
    scatter = torch.cov(positive.T) + torch.cov(negative.T)
    scatter = scatter + shrinkage * scatter.diagonal().mean() * torch.eye(len(scatter))
    gap = positive.mean(0) - negative.mean(0)
    direction = torch.linalg.solve(scatter, gap)
    direction = direction / (gap @ direction)
    return direction, 0.5 * (positive.mean(0) + negative.mean(0)) @ direction


def _still_directions(states: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit directions, orthogonal to each other and to the ones LayerNorm removes, of the least variance."""
    ones = torch.ones(states.shape[1], 1) / states.shape[1] ** 0.5
    covariance = torch.cov(states.T) + 1e3 * ones @ ones.T
    _, vectors = torch.linalg.eigh(covariance)
    return vectors[:, 0], vectors[:, 1]


def _blank(layer: BertLayer) -> None:
    """Make a layer the identity up to its LayerNorms."""
    for name, parameter in layer.named_parameters():
        parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)


def _add_ramp(
    layer: BertLayer, unit: int, discriminator: tuple[Tensor, Tensor], ends: tuple[float, float], mark: Tensor
) -> None:
    """Two feed-forward units that add 0 to `mark` as w x - b goes from one end to the other."""
    direction, offset = discriminator
    height = _RAMP * (ends[1] - ends[0])
    for index, (end, sign) in enumerate(zip(ends, (1.0, -1.0), strict=True), start=unit):
        layer.intermediate.dense.weight[index] = _RAMP * direction
        layer.intermediate.dense.bias[index] = _RAMP * (-offset - end)
        layer.output.dense.weight[:, index] = sign * mark / height


@torch.no_grad()
def set_comparing_layers(
    model: BertLMHeadModel, examples: Sequence[Example], attention: Attention, label_token_ids: Sequence[int]
) -> Tensor:
    """Set the last two layers of `model`, fitted on `examples` (a few hundred; several kinds of text).

    Returns `anchor` [H]: the less of it in the reader's last hidden state, the nearer the texts.
    """
    model.eval()
    config = model.config
    depth, size = config.num_hidden_layers - NUM_COMPARING_LAYERS, config.hidden_size // config.num_attention_heads
    pooling, comparing = model.bert.encoder.layer[depth], model.bert.encoder.layer[depth + 1]
    identity = torch.eye(config.hidden_size)
    _blank(pooling)
    _blank(comparing)

    encoded = _States(model, examples, attention, depth)
    direction, offset = discriminant(encoded.reader, torch.cat([encoded.first, encoded.other]))
    attend = pooling.attention.self
    for head in range(config.num_attention_heads):
        for projection in (attend.query, attend.key):
            projection.weight[head * size] = _SELF_ATTENTION * direction
            projection.bias[head * size] = _SELF_ATTENTION * (0.5 - offset)
    attend.value.weight.copy_(identity)
    pooling.attention.output.dense.weight.copy_(_POOL_GAIN * identity)

    pooled = _States(model, examples, attention, depth + 1)
    mark, anchor = _still_directions(torch.cat([pooled.first, pooled.reader, pooled.other]))
    first = discriminant(pooled.first, torch.cat([pooled.other, pooled.reader]))
    reader = discriminant(pooled.reader, torch.cat([pooled.other, pooled.first]))
    _add_ramp(pooling, 0, first, (-0.02, 0.22), _FIRST_MARK * mark)
    _add_ramp(pooling, 2, reader, (0.0, 0.2), _ANCHOR * anchor)

    marked = _States(model, examples, attention, depth + 1)
    gap = (marked.first @ mark).median() - (marked.other @ mark).median()
    attend = comparing.attention.self
    for head in range(config.num_attention_heads):
        attend.query.bias[head * size] = 1.0
        attend.key.weight[head * size] = _FIRST_ATTENTION * size**0.5 / gap * mark
    attend.value.weight.copy_(identity - torch.outer(mark, mark) - torch.outer(anchor, anchor))
    comparing.attention.output.dense.weight.copy_(identity)
    _start_reading(model, examples, attention, anchor, label_token_ids)
    return anchor


def _start_reading(
    model: BertLMHeadModel,
    examples: Sequence[Example],
    attention: Attention,
    anchor: Tensor,
    label_token_ids: Sequence[int],
) -> None:
    """Point the head from less of `anchor` to higher grades, so that training starts with the right sign."""
    depth = model.config.num_hidden_layers
    reader = _States(model, examples, attention, depth).reader @ anchor
    labels = model.get_input_embeddings().weight[list(label_token_ids)]
    wanted = torch.linspace(-1.0, 1.0, len(labels))
    rising = torch.linalg.pinv(labels - labels.mean(0)) @ wanted
    rising = rising - rising.mean()
    transform = model.cls.predictions.transform.dense
    gain = _READING / reader.std().clamp_min(1e-6)
    # Beside the identity: the head's own LayerNorm would make a step of a signal that stands alone.
    transform.weight.add_(-gain * torch.outer(rising, anchor))
    transform.bias.add_(gain * reader.mean() * rising)
