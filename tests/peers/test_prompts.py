"""Padded batches, sequences of llama.cpp, and names of a GGUF file."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.peers import prompts
from benchmarks.peers.gguf_file import settings_of, tensor_name, write_gguf
from benchmarks.peers.llama_cpp_peer import BATCH_TOKENS, MAX_SEQUENCES, groups_of
from benchmarks.peers.prompts import padded_batches
from modeling import forward

SHAPE = Qwen3Config(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    tie_word_embeddings=True,
)


def test_segments_are_numbered_as_the_model_numbers_them() -> None:
    ours = (prompts.PREFIX, prompts.DOCUMENT, prompts.SUFFIX, prompts.PADDING)
    assert ours == (forward.PREFIX, forward.DOCUMENT, forward.SUFFIX, forward.PADDING)


def test_batches_are_sorted_and_padded_on_the_right() -> None:
    batches = padded_batches([1, 2], [[7, 8, 9, 3], [5, 3], [6, 6, 3]], num_suffix_tokens=1, batch_tokens=10)
    assert [batch.places for batch in batches] == [[1, 2], [0]]
    assert batches[0].ids.tolist() == [[1, 2, 5, 3, 0], [1, 2, 6, 6, 3]]
    assert batches[0].segments.tolist() == [[0, 0, 1, 2, -1], [0, 0, 1, 1, 2]]
    assert batches[0].last.tolist() == [3, 4]


@pytest.mark.parametrize(("budget", "sizes"), [(1, [1, 1, 1]), (8, [2, 1]), (9, [2, 1]), (12, [2, 1]), (15, [3])])
def test_a_batch_holds_its_budget_of_padded_tokens_but_one_row_at_least(budget: int, sizes: list[int]) -> None:
    batches = padded_batches([1], [[2, 3], [2, 3, 4], [2, 3, 4, 5]], 1, budget)
    assert [len(batch.places) for batch in batches] == sizes


def test_documents_are_decoded_in_groups_of_tokens_and_of_sequences() -> None:
    half = BATCH_TOKENS // 2
    assert groups_of([half, half, 1]) == [[0, 1], [2]]
    assert [len(group) for group in groups_of([1] * (MAX_SEQUENCES + 5))] == [MAX_SEQUENCES - 1, 6]
    assert groups_of([]) == []


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"),
        ("model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight"),
        ("model.layers.1.mlp.gate_proj.weight", "blk.1.ffn_gate.weight"),
        ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
    ],
)
def test_weights_have_the_names_llama_cpp_reads(weight: str, expected: str) -> None:
    assert tensor_name(weight, num_layers=2) == expected


def test_a_weight_of_another_model_or_layer_is_refused() -> None:
    for name in ("model.layers.2.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias2"):
        with pytest.raises(ValueError, match="no weight of a 2-layer Qwen3"):
            tensor_name(name, num_layers=2)


def test_the_shape_is_that_of_the_checkpoint() -> None:
    found = settings_of(SHAPE.to_dict())
    assert found["add_head_count_kv"] == 2
    assert found["add_rope_freq_base"] == SHAPE.to_dict()["rope_parameters"]["rope_theta"]
    assert all(hasattr(gguf.GGUFWriter, method) for method in found)


def test_a_file_holds_every_weight_within_a_step_of_q8_0(tmp_path: Path) -> None:
    model = Qwen3ForCausalLM(SHAPE)
    model.save_pretrained(tmp_path)
    write_gguf(tmp_path, tmp_path / "model.gguf")
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    weights = {name: value for name, value in model.named_parameters() if name != "lm_head.weight"}
    assert set(found) == {tensor_name(name, 2) for name in weights}
    for name, value in weights.items():
        tensor, expected = found[tensor_name(name, 2)], value.detach().numpy()
        kept = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(expected.shape)
        # Half a step of 127, and a scale that is a float16.
        assert np.abs(kept - expected).max() <= np.abs(expected).max() / 220
