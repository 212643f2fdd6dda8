"""Attention of operators that every runtime has: MatMul, Add, Softmax, MatMul.

    attention = softmax(scale * q k^T + bias) v

TensorRT's parser takes these and fuses the pattern itself; not every version of it knows the Attention operator of
opset 23. A head of keys and values that several query heads share is not copied: it is broadcast over its group,

    [KV, heads / KV, S, D] x [KV, 1, D, T]

so that keys and values are read as they lie in the KV that the engine keeps.
"""

from dataclasses import dataclass

import onnx_ir as ir
from onnxscript import GraphBuilder


@dataclass(frozen=True, slots=True)
class Heads:
    """How states are split: `num` query heads over `num_kv` of keys and values, a divisor, of `size` each."""

    num: int
    num_kv: int
    size: int


def attend_plainly(
    builder: GraphBuilder, states: tuple[ir.Value, ir.Value, ir.Value], bias: ir.Value, scale: ir.Value, heads: Heads
) -> ir.Value:
    """What queries read of keys and values.

    Args:
        builder: where the nodes go.
        states: queries [1, heads, S, D]; keys and values [1, KV, T, D], the past included.
        bias: [1, 1, S, T], of the states' type.
        scale: a scalar of the states' type.
        heads: of queries, keys and values.

    Returns:
        [1, S, heads * D].
    """
    op = builder.op
    query, key, value = states
    shared = heads.num != heads.num_kv
    rows = op.Mul(query, scale)
    key_order = [0, 1, 3, 2]
    if shared:
        rows = op.Reshape(rows, [heads.num_kv, heads.num // heads.num_kv, -1, heads.size])
        key_order, value = [1, 0, 3, 2], op.Transpose(value, perm=[1, 0, 2, 3])
    scores = op.Add(op.MatMul(rows, op.Transpose(key, perm=key_order)), bias)
    attended = op.MatMul(op.Softmax(scores, axis=-1), value)
    if shared:
        attended = op.Reshape(attended, [1, heads.num, -1, heads.size])
    return op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [0, -1, heads.num * heads.size])
