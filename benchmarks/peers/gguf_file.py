"""A Qwen3 checkpoint as the GGUF file llama.cpp reads, Q8_0: the `gguf` package's own names and quantisation.

    model.layers.3.self_attn.q_proj.weight  ->  blk.3.attn_q.weight       (gguf.get_tensor_name_map)
    matrices                                ->  Q8_0: blocks of 32, one float16 scale each
    norms (one dimension)                   ->  float32

Qwen3's rotary halves lie as llama.cpp wants them, so nothing is permuted. The file carries no vocabulary: prompts are
given as token ids, tokenised by the same tokenizer as everybody's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

ARCHITECTURE = "qwen3"


def tensor_name(name: str, num_layers: int) -> str:
    """GGUF's name of a checkpoint's weight; ValueError for one that Qwen3 does not have."""
    import gguf  # noqa: PLC0415  of the `bench` extra

    known = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, num_layers).get_name(name, try_suffixes=(".weight",))
    if known is None:
        raise ValueError(f"{name!r} is no weight of a {num_layers}-layer Qwen3")
    return str(known)


def settings_of(config: Mapping[str, Any]) -> dict[str, int | float]:
    """What the file says of the shape, by the names of `gguf.GGUFWriter`'s methods, from a config.json."""
    rope = config.get("rope_parameters") or config
    return {
        "add_block_count": config["num_hidden_layers"],
        "add_context_length": config["max_position_embeddings"],
        "add_embedding_length": config["hidden_size"],
        "add_feed_forward_length": config["intermediate_size"],
        "add_head_count": config["num_attention_heads"],
        "add_head_count_kv": config["num_key_value_heads"],
        "add_key_length": config["head_dim"],
        "add_value_length": config["head_dim"],
        "add_vocab_size": config["vocab_size"],
        "add_layer_norm_rms_eps": config["rms_norm_eps"],
        "add_rope_freq_base": float(rope["rope_theta"]),
    }


def write_gguf(checkpoint: Path, path: Path) -> None:
    """Write `path`; whole or not at all."""
    import gguf  # noqa: PLC0415  of the `bench` extra

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    temporary = path.with_suffix(".part")
    writer = gguf.GGUFWriter(temporary, ARCHITECTURE)
    for method, value in settings_of(config).items():
        getattr(writer, method)(value)
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118  not a dict
                _add(writer, tensor_name(name, config["num_hidden_layers"]), weights.get_tensor(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.rename(path)


def _add(writer: Any, name: str, weight: "np.ndarray[Any, Any]") -> None:
    import gguf  # noqa: PLC0415  of the `bench` extra

    weight = weight.astype(np.float32, copy=False)
    if weight.ndim == 1:
        writer.add_tensor(name, weight)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
