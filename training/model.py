"""Models: loading, warm start, and the forward pass to the grade.

The embedded default is BERT-shaped: the whole transformer of all-MiniLM-L6-v2 becomes a decoder
(`BertLMHeadModel`), its vocabulary head tied to the token embeddings. Any Hugging Face causal language model
loads the same way; both take a four-dimensional attention mask, so the scoring spec's attention pattern holds.
"""

from contextlib import nullcontext
from importlib import resources
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel, PreTrainedModel

from relevance.attention import Attention
from relevance.tokenization import JsonTokenizer


def resolve_model_path(base_model: str) -> str:
    """A folder or hub id; `package:NAME/PATH` is a folder inside an installed package."""
    if not base_model.startswith("package:"):
        return base_model
    package, _, inside = base_model.removeprefix("package:").partition("/")
    return str(Path(str(resources.files(package))) / inside)


def load_tokenizer(model_path: str) -> JsonTokenizer:
    """The fast tokenizer of a checkpoint folder or hub id."""
    local = Path(model_path) / "tokenizer.json"
    if local.is_file():
        return JsonTokenizer.from_file(local)
    return JsonTokenizer(AutoTokenizer.from_pretrained(model_path).backend_tokenizer.to_str())


def load_model(model_path: str, dropout: float = 0.0, num_added_layers: int = 0) -> PreTrainedModel:
    """A causal language model in float32; an encoder-only BERT becomes a decoder, `num_added_layers` on top."""
    config = AutoConfig.from_pretrained(model_path)
    config.attention_dropout = dropout
    if isinstance(config, BertConfig):
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        has_head = (config.architectures or [""])[0] == "BertLMHeadModel"
        config.num_hidden_layers += num_added_layers
        config.is_decoder = True
        config.tie_word_embeddings = True
        model = BertLMHeadModel.from_pretrained(model_path, config=config, dtype=torch.float32)
        if not has_head:
            _start_head(model)
        return model
    return AutoModelForCausalLM.from_pretrained(model_path, config=config, dtype=torch.float32)


def _start_head(model: BertLMHeadModel) -> None:
    # A sentence encoder carries no vocabulary head. Its transform starts as the identity, so that the first
    # logits are similarities between the last hidden state and the token embeddings.
    with torch.no_grad():
        transform = model.cls.predictions.transform.dense
        transform.weight.copy_(torch.eye(transform.weight.shape[0]))
        transform.bias.zero_()
        model.cls.predictions.bias.zero_()


def attention_mask(segment_ids: torch.Tensor, attention: Attention) -> torch.Tensor:
    """Who may look at whom: bool [B, 1, L, L] from segment ids [B, L] (0 prefix, 1 document, 2 suffix, -1 padding).

    Padding sees itself, so that no softmax is over nothing.
    """
    length = segment_ids.shape[1]
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    if attention == "causal":
        allowed = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril() & (key >= 0)
    elif attention == "segment":
        allowed = (key >= 0) & (key.clamp(max=1) <= query)
    else:
        allowed = (key >= 0) & ((key == query) | (query == 2))
    own = torch.eye(length, dtype=torch.bool, device=segment_ids.device)
    return (allowed | own)[:, None]


def position_ids(segment_ids: torch.Tensor, attention: Attention) -> torch.Tensor:
    """Positions [B, L]: from 0 in row order, and under `isolated` attention from 0 again behind the prefix."""
    positions = torch.arange(segment_ids.shape[1], device=segment_ids.device)[None].expand_as(segment_ids)
    if attention == "isolated":
        prefix_lengths = (segment_ids == 0).sum(1, keepdim=True)
        positions = torch.where(segment_ids == 0, positions, positions - prefix_lengths)
    return positions


def next_token_logits(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    segment_ids: torch.Tensor,
    last: torch.Tensor,
    attention: Attention,
    *,
    head_only: bool = False,
) -> torch.Tensor:
    """Vocabulary logits after each prompt: [B, V] from ids [B, L], segments [B, L], last positions [B].

    With `head_only` gradients stop at the head.
    """
    with torch.no_grad() if head_only else nullcontext():
        hidden = model.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask(segment_ids, attention),
            position_ids=position_ids(segment_ids, attention),
            use_cache=False,
        ).last_hidden_state
    picked = hidden[torch.arange(len(last), device=last.device), last]
    head = model.cls if isinstance(model, BertLMHeadModel) else model.get_output_embeddings()
    logits: torch.Tensor = head(picked)
    return logits
