"""A Qwen3 checkpoint of real shape with random weights, for speed work where no trained one is at hand.

    python -m model_export.random_checkpoint OUT --shape qwen3-0.6b --tokenizer tokenizer.json

Speed does not depend on the weights' values, only on their shapes. Its grades are near ties and mean nothing.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from relevance.tokenization import JsonTokenizer

SHAPES = {
    "qwen3-0.6b": Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
    ),
    "qwen3-tiny": Qwen3Config(
        vocab_size=0,  # that of the tokenizer
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        initializer_range=0.2,  # wide enough that grades differ from pair to pair
        tie_word_embeddings=True,
    ),
}


def write_checkpoint(
    folder: Path, shape: str, tokenizer_file: Path, seed: int = 0, num_layers: int | None = None
) -> None:
    """A checkpoint folder of `shape`, or of `num_layers` layers of it, that the export takes like any other."""
    config = SHAPES[shape]
    if num_layers is not None:
        config = Qwen3Config(**{**config.to_dict(), "num_hidden_layers": num_layers, "layer_types": None})
    if config.vocab_size == 0:
        config = Qwen3Config(**{**config.to_dict(), "vocab_size": JsonTokenizer.from_file(tokenizer_file).vocab_size})
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config).eval()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    shutil.copyfile(tokenizer_file, folder / "tokenizer.json")


def main(arguments: Sequence[str]) -> int:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m model_export.random_checkpoint")
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--tokenizer", metavar="FILE", type=Path, required=True, help="a Qwen3 tokenizer.json")
    parser.add_argument("--layers", type=int, help="fewer or more layers than the shape has, to try something")
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args(arguments)
    write_checkpoint(found.out, found.shape, found.tokenizer, found.seed, found.layers)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
