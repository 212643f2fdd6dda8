"""Attention whose sums are exact, for int8 graphs: the same score to the bit in any company.

An operator's softmax adds in an order that depends on where a token lies in its pack. That moves an activation by 1e-7,
and now and then across a rounding boundary of the quantisation behind it, whence the difference grows: one pair in
seven scored more than 1e-3 apart in two packs. Here the weights exp(score - peak) and the values are rounded to
multiples of 2^-8 and 2^-6, so that every partial sum below 1024 is a float32 without error, and the order does not
matter any more:

    attention = sum_t round(exp(s_t - peak)) round(v_t) / sum_t round(exp(s_t - peak))

for 17 % more time on a 150-token pack. The sum of weights is one more column of the values, of ones.
"""

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from model_export.plain_attention import Heads

# Multiples of 2^-bits that attention with exact sums works on.
WEIGHT_BITS, VALUE_BITS = 8, 6


def attend_exactly(
    builder: GraphBuilder, states: tuple[ir.Value, ir.Value, ir.Value], bias: ir.Value, scale: ir.Value, heads: Heads
) -> ir.Value:
    """What queries read of keys and values, [1, S, heads * D]; arguments as of `attend_plainly`, in float32."""
    op, size = builder.op, heads.size
    query, key, value = states
    scores = op.Add(op.MatMul(op.Mul(query, scale), op.Transpose(key, perm=[0, 1, 3, 2])), bias)
    weights = op.Exp(op.Sub(scores, op.ReduceMax(scores, [-1], keepdims=1)))
    column = op.Concat(op.Shape(value, start=0, end=3), [1], axis=0)
    ones = op.Expand(_scalar(builder, "attention.one", 1.0), column)
    counted = op.Concat(round_to_bits(builder, value, "attention.values", VALUE_BITS), ones, axis=3)
    sums = op.MatMul(round_to_bits(builder, weights, "attention.weights", WEIGHT_BITS), counted)
    attended = op.Div(op.Slice(sums, [0], [size], [3]), op.Slice(sums, [size], [size + 1], [3]))
    return op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [0, -1, heads.num * size])


def round_to_bits(builder: GraphBuilder, values: ir.Value, name: str, bits: int) -> ir.Value:
    """To the nearest multiple of 2^-bits: beside 1.5 * 2^(23 - bits) a float32 has no finer digits."""
    magic = _scalar(builder, f"{name}.magic", 1.5 * 2.0 ** (23 - bits))
    return builder.op.Sub(builder.op.Add(values, magic), magic)


def _scalar(builder: GraphBuilder, name: str, number: float) -> ir.Value:
    existing: ir.Value | None = builder.graph.initializers.get(name)
    if existing is not None:
        return existing
    return builder.initializer(ir.tensor(np.array(number, dtype=np.float32), name=name), qualify=False)
