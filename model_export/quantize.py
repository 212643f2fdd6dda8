"""int8 weights and activations, as a pass over the graph.

    w[:, j] = q_w[:, j] * s_w[j]          symmetric, one scale per output column, see below
    x[i]    = (q_x[i] - 128) * s_x[i]     symmetric, one scale per row, s_x[i] = max|x[i]| / 127
    (x w)[i, j] = s_x[i] * s_w[j] * sum_k (q_x[i, k] - 128) q_w[k, j]

Scales per row keep a pair's score independent of its neighbours in the pack, which one scale per tensor does
not. Every MatMul whose weight is constant becomes Abs, ReduceMax, Max, Mul (the row's scale), QuantizeLinear,
MatMulIntegerToFloat, Mul; MatMuls that read one tensor share its quantised form. Where a product only scales another
tensor that is quantised next (`silu(gate) * up` before down), its row scales join that one's: rows divided by their
largest are the same without them. The label head stays float32.

Choices that were measured (docs/log.md has the figures):

- activations are *unsigned* with zero point 128: ONNX Runtime has no fast x86 kernel for signed times signed;
- processors without VNNI multiply pairs of neighbours and add them in 16 bits *with saturation*. A weight's scale
  is therefore such that neighbours of one sign sum to at most 127 + 1: 255 x 128 < 2^15, nothing saturates, and
  every processor computes the same integers. It costs less than a bit: 64 for the largest weight would cost one.
- MatMulIntegerToFloat is emitted as such, with a constant scale of 1 for the activations and the row scale
  multiplied in afterwards. Left to itself ONNX Runtime fuses MatMulInteger, Cast and Mul(row scale, column
  scale) into that operator although it supports only one activation scale, and returns wrong numbers.

The token embedding, where it doubles as the vocabulary head, is stored once: int8 with a scale per token, looked
up by Gather, and multiplied by its transpose, which ONNX Runtime folds when it loads the graph; or by the transpose of
the rows that a Gather has picked of it.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.convenience import replace_all_uses_with

from model_export.contract import MICROSOFT

_LARGEST = 127.0
_ZERO_POINT = 128


def quantize_weight(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 values of a matrix, and the scale of each slice along `axis`; a slice of zeros gets scale 1.

    Neighbours of one sign within a slice sum to at most 128: see the module docstring.
    """
    slices = weight if axis == 0 else weight.T  # [scales, values that share one]
    largest = np.abs(slices).max(axis=1)
    for signed in (slices, -slices):
        part = np.maximum(signed, 0.0)
        largest = np.maximum(largest, (part[:, 1:] + part[:, :-1]).max(axis=1, initial=0.0))
    scales = largest.astype(np.float32) / np.float32(_LARGEST)
    scales[scales == 0.0] = 1.0
    values = np.rint(slices / scales[:, None]).astype(np.int8)
    return np.ascontiguousarray(values if axis == 0 else values.T), scales


def quantize_graph(model: ir.Model, *, embedding: str, keep: frozenset[str]) -> None:
    """Quantise `model` in place.

    Args:
        model: a float32 graph.
        embedding: name of the token embedding initializer [V, H].
        keep: names of weights to leave in float32.
    """
    quantizer = _Quantizer(model.graph, keep)
    if embedding in model.graph.initializers:
        quantizer.quantize_embedding(embedding)
    for node in list(model.graph):
        quantizer.quantize_matmul(node)
    model.graph.sort()


class _Quantizer:
    """Rewrites the MatMuls and the embedding of one graph."""

    def __init__(self, graph: ir.Graph, keep: frozenset[str]) -> None:
        self._graph = graph
        self._keep = keep
        self._quantized: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        self._scaled: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        """A product of ours: what it was before its row scales, and those."""
        self._one = self._constant("quantize.one", np.float32(1.0))
        self._zero_point = self._constant("quantize.zero_point", np.uint8(_ZERO_POINT))
        self._zero_points = self._constant("quantize.zero_points", np.full(1, _ZERO_POINT, dtype=np.uint8))
        self._last_axis = self._constant("quantize.last_axis", np.full(1, -1, dtype=np.int64))
        self._step = self._constant("quantize.step", np.float32(1.0 / _LARGEST))
        self._floor = self._constant("quantize.floor", np.float32(1e-12))

    def _constant(self, name: str, array: NDArray[np.generic] | np.generic) -> ir.Value:
        tensor = ir.tensor(np.asarray(array), name=name)
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _insert(self, tape: ir.tape.Tape, before: ir.Node) -> None:
        self._graph.insert_before(before, tape.nodes)

    def _rows(self, value: ir.Value, reader: ir.Node) -> tuple[ir.Value, ir.Value]:
        """`value` [..., R, C] as uint8 with zero point 128, and its row scales [..., R, 1]; made once per value."""
        if value not in self._quantized:
            tape = ir.tape.Tape()
            factor = self._without_row_scales(value)
            largest = tape.op("ReduceMax", [tape.op("Abs", [value]), self._last_axis], {"keepdims": 1})
            scales = tape.op("Mul", [tape.op("Max", [largest, self._floor]), self._step])
            flat = tape.op("Reshape", [scales, self._last_axis])
            zero_points = tape.op("Expand", [self._zero_points, tape.op("Shape", [flat])])
            values = tape.op("QuantizeLinear", [value, flat, zero_points], {"axis": -2})
            if factor is not None:
                scales = tape.op("Mul", [scales, factor])
            self._insert(tape, reader)
            self._quantized[value] = values, scales
        return self._quantized[value]

    def _without_row_scales(self, value: ir.Value) -> ir.Value | None:
        """Take the row scales of a product out of `value`, a Mul that nothing else reads but MatMuls; they, if any."""
        multiply = value.producer()
        if multiply is None or multiply.op_type != "Mul" or None in [self._weight(use.node) for use in value.uses()]:
            return None
        for index, factor in enumerate(multiply.inputs):
            if factor in self._scaled and len(factor.uses()) == 1:
                product, row_scales = self._scaled[factor]
                scaling = factor.producer()
                assert scaling is not None
                multiply.replace_input_with(index, product)
                self._graph.remove(scaling, safe=True)
                return row_scales
        return None

    def _weight(self, node: ir.Node) -> ir.Value | None:
        """The constant weight of a MatMul that is to be quantised; None of any other node."""
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        is_ours = weight is not None and weight.const_value is not None and weight.name not in self._keep
        return weight if is_ours else None

    def quantize_matmul(self, node: ir.Node) -> None:
        """Replace one node if it is a MatMul by a constant weight [C, J]."""
        weight = self._weight(node)
        if weight is None:
            return
        assert weight.const_value is not None
        values, scales = quantize_weight(weight.const_value.numpy(), axis=1)
        stored = self._constant(f"{weight.name}.int8", values)
        self._replace(node, stored, self._constant(f"{weight.name}.scale", scales))
        self._drop(weight)

    def _replace(self, node: ir.Node, weight: ir.Value, scales: ir.Value) -> None:
        value = node.inputs[0]
        assert value is not None
        quantized, row_scales = self._rows(value, node)
        tape = ir.tape.Tape()
        inputs = [quantized, weight, self._one, scales, self._zero_point]
        product = tape.op("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
        scaled = tape.op("Mul", [product, row_scales])
        self._insert(tape, node)
        self._substitute(node, scaled)
        self._scaled[scaled] = product, row_scales

    def _substitute(self, node: ir.Node, value: ir.Value) -> None:
        """Let `value` take the place, type and name of the node's output."""
        old = node.outputs[0]
        name, value.type, value.shape = old.name, old.type, old.shape
        replace_all_uses_with(old, value, replace_graph_outputs=True)
        self._graph.remove(node, safe=True)
        value.name = name

    def quantize_embedding(self, name: str) -> None:
        """Replace what reads the embedding [V, H]: Gathers, and MatMuls through a Transpose of it or of a Gather."""
        embedding = self._graph.initializers[name]
        assert embedding.const_value is not None
        values, scales = quantize_weight(embedding.const_value.numpy(), axis=0)
        stored = self._constant(f"{name}.int8", values)
        by_token = self._constant(f"{name}.scale", scales)
        for node, _ in list(embedding.uses()):
            readers = [reader for reader, _ in node.outputs[0].uses()]
            if node.op_type == "Gather" and all(reader.op_type == "Transpose" for reader in readers):
                self._replace_chosen_head(node, readers, (stored, by_token))
            elif node.op_type == "Gather":
                self._replace_lookup(node, stored, by_token)
            elif node.op_type == "Transpose":
                self._replace_head(node, stored, by_token)
        self._drop(embedding)

    def _replace_lookup(self, node: ir.Node, stored: ir.Value, scales: ir.Value) -> None:
        tape = ir.tape.Tape()
        rows = tape.op("Cast", [tape.op("Gather", [stored, node.inputs[1]])], {"to": ir.DataType.FLOAT})
        by_row = tape.op("Unsqueeze", [tape.op("Gather", [scales, node.inputs[1]]), self._last_axis])
        found = tape.op("Mul", [rows, by_row])
        self._insert(tape, node)
        self._substitute(node, found)

    def _replace_head(self, transpose: ir.Node, stored: ir.Value, scales: ir.Value) -> None:
        transpose.replace_input_with(0, stored)
        head = transpose.outputs[0]
        head.type = ir.TensorType(ir.DataType.INT8)
        for product, _ in list(head.uses()):
            self._replace(product, head, scales)

    def _replace_chosen_head(
        self, gather: ir.Node, transposes: list[ir.Node], embedding: tuple[ir.Value, ir.Value]
    ) -> None:
        """The products of some rows of the embedding, which `gather` picks."""
        stored, by_token = embedding
        tape = ir.tape.Tape()
        scales = tape.op("Gather", [by_token, gather.inputs[1]])
        self._insert(tape, gather)
        gather.replace_input_with(0, stored)
        rows = gather.outputs[0]
        rows.type = ir.TensorType(ir.DataType.INT8)
        for transpose in transposes:
            self._replace_head(transpose, rows, scales)

    def _drop(self, initializer: ir.Value) -> None:
        if not initializer.uses():
            assert initializer.name is not None
            self._graph.initializers.pop(initializer.name)
