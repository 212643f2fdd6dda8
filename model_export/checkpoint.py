"""A checkpoint and everything that can be wrong with it before the slow work.

A checkpoint is a Hugging Face folder or hub id. Beside the weights it may carry

    scoring_spec.json    template, grades, limits, attention; else a preset is chosen by architecture
    training.json        an object on how it was trained; copied into the manifest as it is
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertLMHeadModel,
    PretrainedConfig,
    PreTrainedModel,
)

from model_export.errors import ExportError
from modeling.late_bert import LateBertForGrading
from relevance.errors import RelevanceError
from relevance.spec import SPEC_FILE, ScoringSpec
from relevance.tokenization import JsonTokenizer

TRAINING_FILE = "training.json"
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")
HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt"]
PRESETS = {"bert": "minilm-grades", "late_bert": "minilm-late", "qwen3": "qwen3-grades"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded, checked checkpoint."""

    name: str
    """Hub id, or the folder's name."""
    folder: Path
    """Where its files lie on this machine; never written into an artifact."""
    architecture: str
    model: PreTrainedModel
    tokenizer: JsonTokenizer
    spec: ScoringSpec
    label_token_ids: tuple[int, ...]
    sha256: str
    """Over the names and bytes of its weight files."""
    training: dict[str, Any]


def load_checkpoint(source: str, spec: str | None = None) -> Checkpoint:
    """Load `source` in float32 and check that it can be exported.

    Args:
        source: a folder or hub id.
        spec: a preset's name or a file that overrides the checkpoint's own.

    Raises:
        ExportError: an architecture this package has no graph for, a spec that does not fit the tokenizer or the
            model, weights that are not finite.
    """
    name, folder = _resolve(source)
    config = AutoConfig.from_pretrained(folder)
    architecture = str(config.model_type)
    if architecture not in PRESETS:
        raise ExportError(f"{source}: architecture {architecture!r} is not known here, only {', '.join(PRESETS)}")
    if architecture == "bert" and (config.architectures or [""])[0] != "BertLMHeadModel":
        raise ExportError(
            f"{source}: a BERT encoder without a vocabulary head ({config.architectures}); train it first"
        )
    try:
        tokenizer = _load_tokenizer(folder)
        chosen = _choose_spec(spec, folder, architecture)
        label_token_ids = _check_spec(chosen, tokenizer, config)
    except RelevanceError as error:
        raise ExportError(f"{source}: {error}") from error
    model = _load_model(folder, architecture)
    return Checkpoint(
        name=name,
        folder=folder,
        architecture=architecture,
        model=model,
        tokenizer=tokenizer,
        spec=chosen,
        label_token_ids=label_token_ids,
        sha256=_hash_weights(folder),
        training=_read_training(folder),
    )


def _resolve(source: str) -> tuple[str, Path]:
    """Name and folder of a checkpoint; a hub id is downloaded into the hub's cache."""
    local = Path(source)
    if local.is_dir():
        return local.resolve().name, local
    try:
        return source, Path(snapshot_download(source, allow_patterns=HUB_PATTERNS))
    except (OSError, ValueError) as error:
        raise ExportError(f"{source}: neither a folder nor a checkpoint the hub gives out: {error}") from error


def _load_tokenizer(folder: Path) -> JsonTokenizer:
    path = folder / "tokenizer.json"
    if path.is_file():
        return JsonTokenizer.from_file(path)
    return JsonTokenizer(AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str())


def _choose_spec(spec: str | None, folder: Path, architecture: str) -> ScoringSpec:
    if spec is not None:
        path = Path(spec)
        return ScoringSpec.from_file(path) if path.suffix == ".json" else ScoringSpec.preset(spec)
    own = folder / SPEC_FILE
    return ScoringSpec.from_file(own) if own.is_file() else ScoringSpec.preset(PRESETS[architecture])


def _check_spec(spec: ScoringSpec, tokenizer: JsonTokenizer, config: PretrainedConfig) -> tuple[int, ...]:
    """The label token ids of `spec`."""
    label_token_ids = spec.scale.resolve_label_token_ids(tokenizer)
    spec.encoder(tokenizer)  # refuses limits that leave no room for a document
    vocab_size, max_positions = config.vocab_size, config.max_position_embeddings
    if tokenizer.vocab_size > vocab_size:
        raise ExportError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model embeds {vocab_size}")
    if spec.limits.max_tokens > max_positions:
        raise ExportError(f"limits.max_tokens {spec.limits.max_tokens} is beyond the model's {max_positions} positions")
    spelt = tuple(getattr(config, "label_token_ids", label_token_ids))
    if spelt != label_token_ids:
        raise ExportError(f"the model was made for grades spelt {spelt}, the spec spells them {label_token_ids}")
    patterns = {"bert": ("causal", "segment"), "late_bert": ("late",)}.get(config.model_type, ("causal",))
    if spec.attention not in patterns:
        raise ExportError(f"attention {spec.attention!r}: the {config.model_type} graph's is {' or '.join(patterns)}")
    return label_token_ids


def _load_model(folder: Path, architecture: str) -> PreTrainedModel:
    kind = {"bert": BertLMHeadModel, "late_bert": LateBertForGrading}.get(architecture, AutoModelForCausalLM)
    model: PreTrainedModel
    model, loading = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ExportError(f"{folder.name}: {len(missing)} weights are missing, {missing[0]} among them")
    model.eval()
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ExportError(f"{folder.name}: weight {name} has values that are not finite")
    return model


def _hash_weights(folder: Path) -> str:
    paths = sorted({path for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern)})
    if not paths:
        raise ExportError(f"{folder.name}: no weight files ({', '.join(WEIGHT_PATTERNS)})")
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            digest.update(f"{path.name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_training(folder: Path) -> dict[str, Any]:
    path = folder / TRAINING_FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{TRAINING_FILE}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ExportError(f"{TRAINING_FILE}: must be an object")
    return found
