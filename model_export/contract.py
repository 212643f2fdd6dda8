"""The graph contract of `relevance.artifact.GraphInfo`, as values of an ONNX graph being built.

All graphs get their inputs and hand over their outputs here, so that names, types and shapes are spelt once.
`vocab_rows` is the one optional input (not for TensorRT): an initializer that a caller may override. Its default is
empty, so a scoring run multiplies zero rows by the vocabulary head; `RunOptions.only_execute_path_to_fetches` would be
the obvious way to skip the head, but inference builds of ONNX Runtime 1.32 ignore it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from relevance.artifact import GraphInfo

OPSET = 23
MICROSOFT = "com.microsoft"
IR_VERSION = 11

FLOATS: dict[str, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}

PLAIN_OPSET = 20
"""The oldest that has every operator of the plain form; Gelu came last."""

AttentionForm = Literal["operator", "joined", "exact", "plain"]
"""The Attention operator of opset 23; the same over joined heads (`qwen_graph`); spelt out with exact sums
(`bert_graph`); spelt out (`plain_attention`)."""


@dataclass(frozen=True, slots=True)
class ContractInputs:
    """The graph inputs every backbone has; `past` holds (key, value) per layer."""

    input_ids: ir.Value
    position_ids: ir.Value
    attention_bias: ir.Value
    output_positions: ir.Value
    vocab_rows: ir.Value
    past: tuple[tuple[ir.Value, ir.Value], ...]
    lower_bias: ir.Value | None = None
    compared_tokens: ir.Value | None = None

    @property
    def in_order(self) -> list[ir.Value]:
        """As graph inputs; the overridable default comes last."""
        past = [value for pair in self.past for value in pair]
        late = [value for value in (self.lower_bias, self.compared_tokens) if value is not None]
        return [
            self.input_ids,
            self.position_ids,
            self.attention_bias,
            self.output_positions,
            *late,
            *past,
            self.vocab_rows,
        ]


def make_inputs(info: GraphInfo, form: AttentionForm = "operator") -> ContractInputs:
    """New graph inputs for `info`; in the plain form `vocab_rows` has no default, since TensorRT knows none."""
    int64, kv = ir.DataType.INT64, FLOATS[info.kv_dtype]
    past_shape = [1, info.num_kv_heads, "P", info.head_dim]
    vocab_rows = ir.val("vocab_rows", int64, ["M"])
    if form != "plain":
        vocab_rows.const_value = ir.tensor(np.zeros(0, dtype=np.int64), name="vocab_rows")
    bias, is_late = FLOATS[info.bias_dtype], info.num_encoder_layers > 0
    return ContractInputs(
        input_ids=ir.val("input_ids", int64, [1, "S"]),
        position_ids=ir.val("position_ids", int64, [1, "S"]),
        attention_bias=ir.val("attention_bias", bias, [1, 1, "S", "P_plus_S"]),
        output_positions=ir.val("output_positions", int64, ["N"]),
        vocab_rows=vocab_rows,
        past=tuple(
            (
                ir.val(f"past_key_values.{layer}.key", kv, past_shape),
                ir.val(f"past_key_values.{layer}.value", kv, past_shape),
            )
            for layer in range(info.num_layers)
        ),
        lower_bias=ir.val("lower_bias", bias, [1, 1, "S", "P_plus_S"]) if is_late else None,
        compared_tokens=ir.val("compared_tokens", ir.DataType.FLOAT, ["N", "S"]) if is_late else None,
    )


def new_graph(inputs: ContractInputs, form: AttentionForm, name: str) -> ir.Graph:
    """A graph of these inputs without nodes."""
    opsets = {"": PLAIN_OPSET} if form == "plain" else {"": OPSET, MICROSOFT: 1}
    graph = ir.Graph(inputs.in_order, [], nodes=[], opset_imports=opsets, name=name)
    if inputs.vocab_rows.const_value is not None:
        graph.register_initializer(inputs.vocab_rows)
    return graph


def cast_inputs(builder: GraphBuilder, inputs: ContractInputs, dtype: str) -> ContractInputs:
    """Biases and past as `dtype`, for graphs that compute in another type than they are fed."""
    to = FLOATS[dtype]

    def cast(value: ir.Value) -> ir.Value:
        return value if value.dtype == to else builder.op.Cast(value, to=to)

    return replace(
        inputs,
        attention_bias=cast(inputs.attention_bias),
        lower_bias=None if inputs.lower_bias is None else cast(inputs.lower_bias),
        past=tuple((cast(key), cast(value)) for key, value in inputs.past),
    )


def cast_present(
    builder: GraphBuilder, present: Sequence[tuple[ir.Value, ir.Value]], dtype: str, info: GraphInfo
) -> list[tuple[ir.Value, ir.Value]]:
    """Keys and values of type `dtype` as the manifest's `kv_dtype`."""
    if dtype == info.kv_dtype:
        return list(present)
    to = FLOATS[info.kv_dtype]
    return [(builder.op.Cast(key, to=to), builder.op.Cast(value, to=to)) for key, value in present]


def set_outputs(
    graph: ir.Graph, info: GraphInfo, logits: tuple[ir.Value, ir.Value], present: Sequence[tuple[ir.Value, ir.Value]]
) -> None:
    """Name and declare the outputs: (label logits, vocabulary logits) and (key, value) per layer."""
    kv, num_labels = FLOATS[info.kv_dtype], "K"
    present_shape = [1, info.num_kv_heads, "P_plus_S", info.head_dim]
    outputs = [
        (logits[0], "label_logits", ir.DataType.FLOAT, ["N", num_labels]),
        (logits[1], "vocab_logits", ir.DataType.FLOAT, ["M", info.vocab_size]),
    ]
    for layer, (key, value) in enumerate(present):
        outputs.append((key, f"present.{layer}.key", kv, present_shape))
        outputs.append((value, f"present.{layer}.value", kv, present_shape))
    graph.outputs.clear()
    for found, name, dtype, shape in outputs:
        found.name, found.type, found.shape = name, ir.TensorType(dtype), ir.Shape(shape)
        graph.outputs.append(found)
