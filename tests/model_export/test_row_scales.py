"""Row scales that join those of the next quantised tensor: the same numbers, a cheaper operator, only where it may."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from model_export.quantize import quantize_graph

RNG = np.random.default_rng(5)
# The gate stays where the sigmoid is smooth: what int8 rounds away in it must not decide.
GATE, UP, DOWN, OTHER = (RNG.standard_normal((16, 16)).astype(np.float32) * size for size in (0.02, 1.0, 1.0, 1.0))
# Rows of very different size, one of them zeros: their scales are what is moved about.
ROWS = RNG.standard_normal((1, 5, 16)).astype(np.float32) * np.array(
    [[[3.0], [0.01], [40.0], [0.0], [1.0]]], np.float32
)


def build(also_read: str = "") -> ir.Model:
    """down(sigmoid(gate x) * up x) as output `y`; `also_read` ("up" or "inner") is multiplied by a kept weight, too."""
    x = ir.val("x", ir.DataType.FLOAT, [1, "S", 16])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 23, "com.microsoft": 1}, name="test")
    weights = {}
    for name, array in (("gate", GATE), ("up", UP), ("down", DOWN), ("kept", OTHER)):
        weights[name] = ir.val(name, const_value=ir.tensor(array, name=name))
        graph.register_initializer(weights[name])
    tape = ir.tape.Tape(graph)
    up = tape.op("MatMul", [x, weights["up"]])
    inner = tape.op("Mul", [tape.op("Sigmoid", [tape.op("MatMul", [x, weights["gate"]])]), up])
    outputs = [tape.op("MatMul", [inner, weights["down"]])]
    if also_read:
        outputs.append(tape.op("MatMul", [{"up": up, "inner": inner}[also_read], weights["kept"]]))
    for output, name in zip(outputs, ("y", "z"), strict=False):
        output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(output)
    model = ir.Model(graph, ir_version=11)
    quantize_graph(model, embedding="", keep=frozenset({"kept"}))
    return model


def run(model: ir.Model) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(None, {"x": ROWS})
    return found


def exact() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """up, inner and y in float32."""
    up = ROWS @ UP
    inner = up / (1.0 + np.exp(-(ROWS @ GATE)))
    return up, inner, inner @ DOWN


def assert_close_by_row(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert (np.abs(found - expected).max(axis=-1) <= 0.05 * np.abs(expected).max(axis=-1)).all()


def test_a_factors_row_scales_join_the_products() -> None:
    model = build()
    (found,) = run(model)
    assert_close_by_row(found, exact()[2])
    # Of three products two are multiplied by their row scales, and one of two row scales by another's.
    assert Counter(node.op_type for node in model.graph)["Mul"] == 1 + 2 + 2 + 1


@pytest.mark.parametrize("also_read", ["up", "inner"])
def test_what_others_read_keeps_its_row_scales(also_read: str) -> None:
    y, z = run(build(also_read))
    up, inner, expected = exact()
    assert_close_by_row(y, expected)
    assert_close_by_row(z, (up if also_read == "up" else inner) @ OTHER)
