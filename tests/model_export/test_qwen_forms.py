"""The forms of the Qwen3 graph on a processor: heads stay joined, and the same numbers come out as from heads apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from engine.packing import Segment, build_row
from model_export.backbone import build_graph
from model_export.checkpoint import load_checkpoint
from relevance.artifact import Target, load_artifact

SEGMENTS = [Segment(ids, 1, 3, 1) for ids in ((7, 31, 90, 12), (45, 101), (8, 66, 17, 5, 9, 3))]


def graph_of(folder: Path, target: Target) -> onnx.ModelProto:
    return ir.to_proto(build_graph(load_checkpoint(str(folder)), "fp32", target))


def outputs_of(graph: onnx.ModelProto, folder: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    info = load_artifact(folder).manifest.graph
    row = build_row(SEGMENTS, 4, "causal", info.masked_bias)
    rng = np.random.default_rng(2)
    past = {
        f"past_key_values.{layer}.{kind}": rng.standard_normal((1, info.num_kv_heads, 4, info.head_dim), np.float32)
        for layer in range(info.num_layers)
        for kind in ("key", "value")
    }
    feed = {
        "input_ids": row.input_ids,
        "position_ids": row.position_ids,
        "attention_bias": row.attention_bias,
        "output_positions": row.last_positions,
    }
    return session.run(None, feed | past)


def test_joined_heads_are_split_and_turned_by_operators_alone(qwen_folder: Path) -> None:
    operators = Counter(node.op_type for node in graph_of(qwen_folder, "cpu").graph.node)
    layers = 2
    assert operators["Attention"] == layers
    assert operators["RotaryEmbedding"] == 2 * layers
    assert operators["Slice"] == operators["Concat"] == operators["Neg"] == 0
    assert operators["Transpose"] == 1  # of the vocabulary head


def test_joined_heads_give_what_heads_apart_give(qwen_folder: Path, qwen_fp32: Path) -> None:
    joined, apart = (outputs_of(graph_of(qwen_folder, target), qwen_fp32) for target in ("cpu", "cuda"))
    assert len(joined) == len(apart) == 2 + 2 * 2
    for found, expected in zip(joined, apart, strict=True):
        # Float32 sums in another order.
        assert np.abs(found - expected).max(initial=0.0) <= 1e-4 * max(1.0, np.abs(expected).max(initial=0.0))
    assert np.abs(joined[0] - joined[0][:1]).max() > 0.05  # the prompts do differ
