"""int4 weights, as a pass over the graph, for where memory matters more than time.

    w[k, j] = (q_w[k, j] - 8) * s_w[k / 32, j]      q_w of 0 to 15, one scale per 32 weights of a column

Every MatMul whose weight is constant becomes MatMulNBits of ONNX Runtime at accuracy level 4: it rounds the activations
of each row to int8, a scale per 32 of them, and multiplies integers. A weight takes 5 bits, its share of a scale
included, for the 8 of int8; the time is more than int8's, since its kernel is not the one for int8 matrices
(docs/export.md). The largest weight of a block, with its sign, is step -8: one more step than 7 would give it.

Token embedding and vocabulary head are left to `quantize`, which runs next.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.convenience import replace_all_uses_with

from model_export.contract import MICROSOFT

BLOCK = 32
"""Weights that share a scale: the least that MatMulNBits knows is 16, and 32 is what its fast kernels are made for."""
_LOWEST = -8
ACCURACY_LEVEL = 4
"""Of MatMulNBits: activations in int8."""


def quantize_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix [C, J] as MatMulNBits takes it: values [J, blocks, BLOCK / 2], two to a byte, and scales [J, blocks].

    Columns are filled up with zeros to whole blocks; a block of zeros has scale 1.
    """
    size, width = weight.shape
    blocks = np.zeros((width, -(-size // BLOCK) * BLOCK), dtype=np.float32)
    blocks[:, :size] = weight.T
    blocks = blocks.reshape(width, -1, BLOCK)
    places = np.abs(blocks).argmax(axis=2)[..., None]
    scales = np.take_along_axis(blocks, places, axis=2) / np.float32(_LOWEST)
    scales[scales == 0.0] = 1.0
    steps = np.clip(np.rint(blocks / scales), _LOWEST, -_LOWEST - 1) - _LOWEST
    values = steps.astype(np.uint8)
    packed = values[..., 0::2] + 16 * values[..., 1::2]
    return packed.astype(np.uint8), scales[..., 0].astype(np.float32)


def compress_graph(model: ir.Model, keep: frozenset[str]) -> None:
    """Give the MatMuls of `model`, a float32 graph, int4 weights, in place; but for weights named in `keep`."""
    graph = model.graph
    for node in list(graph):
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.const_value is not None and weight.name not in keep:
            _compress(graph, node, weight)


def _compress(graph: ir.Graph, node: ir.Node, weight: ir.Value) -> None:
    assert weight.const_value is not None
    size, width = weight.const_value.numpy().shape
    values, scales = f"{weight.name}.int4", f"{weight.name}.int4_scale"
    if values not in graph.initializers:
        for name, array in zip((values, scales), quantize_weight(weight.const_value.numpy()), strict=True):
            tensor = ir.tensor(array, name=name)
            graph.register_initializer(
                ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            )
    attributes = {"K": size, "N": width, "bits": 4, "block_size": BLOCK, "accuracy_level": ACCURACY_LEVEL}
    inputs = [node.inputs[0], graph.initializers[values], graph.initializers[scales]]
    tape = ir.tape.Tape()
    product = tape.op("MatMulNBits", inputs, attributes, domain=MICROSOFT)
    graph.insert_before(node, tape.nodes)
    old = node.outputs[0]
    name, product.type, product.shape = old.name, old.type, old.shape
    replace_all_uses_with(old, product, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    product.name = name
    if not weight.uses():
        assert weight.name is not None
        graph.initializers.pop(weight.name)
