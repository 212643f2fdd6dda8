"""The forward pass of a checkpoint under a scoring spec's attention, whole prompts or token by token.

Segments: 0 prefix (up to and with the query), 1 document, 2 suffix (its last token reads the grade), 3 answer (the
grade token and the explanation, each token sees what came before it), -1 padding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import BertLMHeadModel, DynamicCache, PreTrainedModel

from modeling.late_bert import LateBertForGrading, compare
from relevance.attention import Attention

PREFIX, DOCUMENT, SUFFIX, ANSWER, PADDING = 0, 1, 2, 3, -1


def attention_mask(segment_ids: Tensor, attention: Attention, *, is_lower_layer: bool = False) -> Tensor:
    """Who may look at whom: bool [B, 1, L, L] from segment ids [B, L].

    `is_lower_layer` matters under `late` attention only. Padding sees itself, so that no softmax is over nothing.
    """
    length = segment_ids.shape[1]
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    earlier = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    if attention == "causal":
        allowed = earlier & (key >= 0)
    else:
        own = key.clamp(max=2) == query if attention == "late" and is_lower_layer else key.clamp(max=1) <= query
        prompt = (key >= 0) & (key < ANSWER) & (own | (query >= SUFFIX))
        allowed = prompt | ((query == ANSWER) & (key == ANSWER) & earlier)
    itself = torch.eye(length, dtype=torch.bool, device=segment_ids.device)
    return (allowed | itself)[:, None]


def position_ids(segment_ids: Tensor, attention: Attention) -> Tensor:
    """Positions [B, L]: from 0 in row order, and under `late` attention from 0 again behind the prefix."""
    positions = torch.arange(segment_ids.shape[1], device=segment_ids.device)[None].expand_as(segment_ids)
    if attention == "late":
        prefix_lengths = (segment_ids == PREFIX).sum(1, keepdim=True)
        positions = torch.where(segment_ids == PREFIX, positions, positions - prefix_lengths)
    return positions


@dataclass(frozen=True, slots=True)
class PromptStates:
    """What a batch of prompts was computed to."""

    hidden: Tensor
    """Last hidden states [B, L, H]."""
    compared: Tensor | None = None
    """f [B, H] of `modeling.late_bert`, of such a model."""


def prompt_states(
    model: PreTrainedModel,
    input_ids: Tensor,
    segment_ids: Tensor,
    attention: Attention,
    cache: DynamicCache | None = None,
) -> PromptStates:
    """States of prompts, with their answers if they have any, from ids [B, L] and segments [B, L].

    `cache` keeps the keys and values.
    """
    positions = position_ids(segment_ids, attention)
    upper = attention_mask(segment_ids, attention)
    if not isinstance(model, LateBertForGrading):
        return PromptStates(_plain(model, input_ids, upper, positions, cache))
    lower = attention_mask(segment_ids, attention, is_lower_layer=True)
    hidden = model.bert.embeddings(input_ids=input_ids, position_ids=positions)
    return _late_layers(model, hidden, (lower, upper), segment_ids, cache)


def next_hidden_states(
    model: PreTrainedModel, input_ids: Tensor, visible: Tensor, positions: Tensor, cache: DynamicCache
) -> Tensor:
    """Hidden states [B, 1, H] of one more answer token a row, behind what `cache` holds.

    Ids [B, 1]; `visible` bool [B, P + 1], the slots a row's token sees (itself last); positions [B, 1].
    """
    mask = visible[:, None, None, :]
    if not isinstance(model, LateBertForGrading):
        return _plain(model, input_ids, mask, positions, cache)
    hidden = model.bert.embeddings(input_ids=input_ids, position_ids=positions)
    return _late_layers(model, hidden, (mask, mask), None, cache).hidden


def _plain(
    model: PreTrainedModel, input_ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None
) -> Tensor:
    states: Tensor = model.base_model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    return states


def _late_layers(
    model: LateBertForGrading,
    hidden: Tensor,
    masks: tuple[Tensor, Tensor],
    segment_ids: Tensor | None,
    cache: DynamicCache | None,
) -> PromptStates:
    config, layers = model.config, model.bert.encoder.layer
    lower, upper = masks
    joint = hidden
    for index in range(config.num_encoder_layers):
        if index == config.joint_from:
            joint = hidden
        hidden = layers[index](hidden, lower, past_key_values=cache)
    compared = None
    if segment_ids is not None:
        is_document = segment_ids == DOCUMENT
        compared = compare(hidden.detach(), segment_ids == PREFIX, is_document)
        marked = is_document[:, :, None].to(joint.dtype) * model.document_mark
        read = _is_reader(segment_ids)[:, :, None].to(joint.dtype) * model.comparison(compared)[:, None]
        joint = joint + marked + read
    for layer in layers[config.num_encoder_layers :]:
        joint = layer(joint, upper, past_key_values=cache)
    return PromptStates(joint, compared)


def _is_reader(segment_ids: Tensor) -> Tensor:
    """The last suffix token of each row, bool [B, L]."""
    following = torch.nn.functional.pad(segment_ids[:, 1:], (0, 1), value=PADDING)
    return (segment_ids == SUFFIX) & (following != SUFFIX)


def vocabulary_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Next-token logits [..., V] from hidden states [..., H]."""
    head = model.cls if isinstance(model, BertLMHeadModel) else model.get_output_embeddings()
    logits: Tensor = head(hidden)
    return logits


def first_token_logits(model: PreTrainedModel, states: PromptStates, last: Tensor) -> Tensor:
    """Vocabulary logits [B, V] of the first token of each answer, from the positions [B] it is read at."""
    hidden = states.hidden[torch.arange(len(last), device=last.device), last]
    logits = vocabulary_logits(model, hidden)
    if states.compared is None:
        return logits
    labels = torch.tensor(model.config.label_token_ids, device=logits.device)
    with torch.autocast(logits.device.type, enabled=False):
        graded = model.label_head(hidden.float()) + model.label_comparison(states.compared)
    return logits.float().index_copy(1, labels, graded)


def next_token_logits(
    model: PreTrainedModel, input_ids: Tensor, segment_ids: Tensor, last: Tensor, attention: Attention
) -> Tensor:
    """Vocabulary logits after each prompt: [B, V] from ids [B, L], segments [B, L], last positions [B]."""
    return first_token_logits(model, prompt_states(model, input_ids, segment_ids, attention), last)
