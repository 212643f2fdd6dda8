"""A bfloat16 graph that a CPU can run: the same nodes, each computed in float32, each result rounded to bfloat16.

    y = f(x, w)   in bfloat16   becomes   y = bfloat16(f(float32(x), float32(w)))

ONNX Runtime's CPU provider has no bfloat16 kernels but Cast's. This is how a GPU computes, too (products are added in
float32 and rounded once), but for the order of sums, and but for fused operators, which round less often. So the parity
gate and the golden pairs of a bfloat16 artifact can be made where there is no GPU. Float16 needs none of this: ONNX
Runtime inserts such casts itself.
"""

import onnx_ir as ir
from onnx_ir.convenience import replace_all_uses_with
from onnx_ir.passes.common import ShapeInferencePass

from model_export.errors import ExportError

_NARROW, _WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def widen(model: ir.Model) -> ir.Model:
    """`model` rewritten in place.

    Raises:
        ExportError: the type of a value cannot be inferred.
    """
    ShapeInferencePass()(model)
    graph = model.graph
    widened: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if any(value.type is None for value in node.outputs):
            raise ExportError(f"{node.op_type}: what it gives has no known type, so it cannot be widened")
        if node.op_type == "Cast":
            continue
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == _NARROW:
                node.replace_input_with(index, _wide(graph, value, node, widened))
        for value in node.outputs:
            if value.dtype == _NARROW:
                _round(graph, value, node, widened)
    graph.sort()
    return model


def _wide(graph: ir.Graph, value: ir.Value, reader: ir.Node, widened: dict[ir.Value, ir.Value]) -> ir.Value:
    """`value` in float32, cast once."""
    if value not in widened:
        tape = ir.tape.Tape()
        widened[value] = tape.op("Cast", [value], {"to": _WIDE})
        graph.insert_before(reader, tape.nodes)
    return widened[value]


def _round(graph: ir.Graph, value: ir.Value, node: ir.Node, widened: dict[ir.Value, ir.Value]) -> None:
    """Let `value`, now computed in float32, be read as bfloat16, or as that in float32."""
    tape = ir.tape.Tape()
    narrow = tape.op("Cast", [value], {"to": _NARROW})
    again = tape.op("Cast", [narrow], {"to": _WIDE})
    for cast in tape.nodes:
        cast.outputs[0].shape = value.shape
    replace_all_uses_with(value, narrow)
    tape.nodes[0].replace_input_with(0, value)
    narrow.type, again.type = ir.TensorType(_NARROW), ir.TensorType(_WIDE)
    value.type = ir.TensorType(_WIDE)
    widened[narrow] = again
    graph.insert_after(node, tape.nodes)
