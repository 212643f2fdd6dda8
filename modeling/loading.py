"""Loading checkpoints and warm starts.

The embedded default is BERT-shaped: the whole transformer of all-MiniLM-L6-v2 becomes a decoder, its vocabulary head
tied to the token embeddings; with joint layers beside the encoder it is a `LateBertForGrading`. Any Hugging Face
causal language model loads the same way.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel, PreTrainedModel

from modeling.late_bert import LateBertConfig, LateBertForGrading, start_comparison
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


def load_model(model_path: str, dropout: float = 0.0) -> PreTrainedModel:
    """A causal language model in float32; an encoder-only BERT becomes a decoder."""
    config = AutoConfig.from_pretrained(model_path)
    config.attention_dropout = dropout
    if not isinstance(config, BertConfig):
        return AutoModelForCausalLM.from_pretrained(model_path, config=config, dtype=torch.float32)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    has_head = (config.architectures or [""])[0] in ("BertLMHeadModel", "LateBertForGrading")
    config.is_decoder = config.tie_word_embeddings = True
    kind = LateBertForGrading if isinstance(config, LateBertConfig) else BertLMHeadModel
    model = kind.from_pretrained(model_path, config=config, dtype=torch.float32)
    if not has_head:
        _start_head(model)
    return model


def load_with_joint_layers(
    model_path: str, joint_from: int, label_token_ids: Sequence[int], dropout: float = 0.0
) -> LateBertForGrading:
    """A sentence encoder (BERT) with its layers from `joint_from` on once more, as joint layers.

    Raises:
        ValueError: the checkpoint is not a plain BERT, or has no layer `joint_from`.
    """
    encoder = load_model(model_path, dropout)
    if type(encoder) is not BertLMHeadModel:
        raise ValueError(f"{model_path}: joint layers need a plain BERT encoder, not {type(encoder).__name__}")
    num_encoder_layers = encoder.config.num_hidden_layers
    if joint_from >= num_encoder_layers:
        raise ValueError(f"joint_from = {joint_from}: the encoder has layers 0 to {num_encoder_layers - 1}")
    num_joint_layers = num_encoder_layers - joint_from
    fields = encoder.config.to_dict() | {
        "num_encoder_layers": num_encoder_layers,
        "joint_from": joint_from,
        "num_hidden_layers": num_encoder_layers + num_joint_layers,
        "label_token_ids": list(label_token_ids),
    }
    fields.pop("model_type")
    fields.pop("architectures", None)
    model = LateBertForGrading(LateBertConfig.from_dict(fields))
    state = encoder.state_dict()
    for index in range(num_joint_layers):
        prefix = f"bert.encoder.layer.{joint_from + index}."
        for name in [name for name in state if name.startswith(prefix)]:
            state[name.replace(prefix, f"bert.encoder.layer.{num_encoder_layers + index}.")] = state[name]
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    start_comparison(model)
    return model


def _start_head(model: BertLMHeadModel) -> None:
    # A sentence encoder carries no vocabulary head. Its transform starts as the identity, so that the first
    # logits are similarities between the last hidden state and the token embeddings.
    with torch.no_grad():
        transform = model.cls.predictions.transform.dense
        transform.weight.copy_(torch.eye(transform.weight.shape[0]))
        transform.bias.zero_()
        model.cls.predictions.bias.zero_()
