"""The int8 pass against the formula in its docstring, on a graph of two products and an embedding."""

from itertools import pairwise

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from model_export.quantize import quantize_graph, quantize_weight

RNG = np.random.default_rng(3)
EMBEDDING = RNG.standard_normal((40, 16)).astype(np.float32) * RNG.uniform(0.1, 9.0, (40, 1)).astype(np.float32)
LEFT, RIGHT = (RNG.standard_normal((16, 8)).astype(np.float32) * scale for scale in (1.0, 0.01))


def build() -> ir.Model:
    """ids -> rows of the embedding -> left, right and kept products of them, and the transposed embedding's."""
    ids = ir.val("ids", ir.DataType.INT64, [1, "S"])
    graph = ir.Graph([ids], [], nodes=[], opset_imports={"": 23, "com.microsoft": 1}, name="test")
    values = {}
    for name, array in (("embedding", EMBEDDING), ("left", LEFT), ("right", RIGHT), ("kept", LEFT)):
        value = ir.val(name, const_value=ir.tensor(array, name=name))
        graph.register_initializer(value)
        values[name] = value
    tape = ir.tape.Tape(graph)
    rows = tape.op("Gather", [values["embedding"], ids])
    head = tape.op("Transpose", [values["embedding"]], {"perm": [1, 0]})
    for name, weight in (
        ("left_out", values["left"]),
        ("right_out", values["right"]),
        ("kept_out", values["kept"]),
        ("head_out", head),
    ):
        product = tape.op("MatMul", [rows, weight])
        product.name, product.type = name, ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(product)
    rows.name, rows.type = "rows", ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(rows)
    return ir.Model(graph, ir_version=11)


@pytest.fixture(scope="module")
def quantized() -> ir.Model:
    model = build()
    quantize_graph(model, embedding="embedding", keep=frozenset({"kept"}))
    return model


def run(model: ir.Model, ids: list[int]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"ids": np.array([ids])}), strict=True))


def column_scale(column: NDArray[np.float32]) -> float:
    """The largest weight, or pair of neighbours of one sign, is 127 steps."""
    pairs = [abs(a + b) for a, b in pairwise(column.tolist()) if a * b > 0.0]
    return float(max([*np.abs(column), *pairs])) / 127.0


def by_formula(rows: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    row_scales = np.abs(rows).max(axis=-1, keepdims=True) / 127.0
    column_scales = np.array([column_scale(column) for column in weight.T])
    products = np.rint(rows / row_scales).astype(np.int64) @ np.rint(weight / column_scales).astype(np.int64)
    return products * row_scales.astype(np.float64) * column_scales


def test_products_follow_the_formula(quantized: ir.Model) -> None:
    found = run(quantized, [4, 17, 30])
    rows = found["rows"]
    for name, weight in (("left_out", LEFT), ("right_out", RIGHT), ("head_out", EMBEDDING.T)):
        expected = by_formula(rows, weight)
        # A value midway between two steps may round either way: one step of one activation.
        assert np.abs(found[name] - expected).max() <= np.abs(expected).max() * 2e-3, name
        assert np.abs(found[name] - rows @ weight).max() <= np.abs(rows @ weight).max() * 0.03, name


def test_embedding_rows_are_within_half_a_step(quantized: ir.Model) -> None:
    found = run(quantized, list(range(40)))["rows"][0]
    step = np.array([[column_scale(row)] for row in EMBEDDING])
    assert (np.abs(found - EMBEDDING) <= 0.501 * step).all()


def test_a_row_does_not_depend_on_its_neighbours(quantized: ir.Model) -> None:
    loudest, quietest = np.argsort(np.abs(EMBEDDING).max(axis=1))[[-1, 0]].tolist()
    alone = run(quantized, [quietest])
    beside = run(quantized, [loudest, quietest])
    for name in ("left_out", "right_out", "head_out"):
        assert np.array_equal(alone[name][0, 0], beside[name][0, 1]), name


def test_weights_are_stored_once_and_as_int8(quantized: ir.Model) -> None:
    stored = {name: value.const_value for name, value in quantized.graph.initializers.items()}
    assert not {"embedding", "left", "right"} & set(stored)
    assert np.array_equal(stored["kept"].numpy(), LEFT)
    large = [tensor.dtype for tensor in stored.values() if tensor.size > 100]
    assert sorted(large, key=str) == [ir.DataType.FLOAT, *[ir.DataType.INT8] * 3]


def test_products_of_one_tensor_share_its_quantised_form(quantized: ir.Model) -> None:
    operators = [node.op_type for node in quantized.graph]
    assert operators.count("QuantizeLinear") == 1
    assert operators.count("MatMulIntegerToFloat") == 3
    assert operators.count("MatMul") == 1


def test_nothing_saturates_on_a_processor_without_vnni() -> None:
    # Its kernel adds the products of two neighbours in 16 bits, with saturation; activations are 0 to 255.
    weight = RNG.standard_t(2, (300, 200)).astype(np.float32)
    weight[7], weight[8] = 3.0, 3.0  # the worst case: two equal largest weights side by side
    for axis, values in ((1, quantize_weight(weight, 1)[0].T), (0, quantize_weight(weight.T.copy(), 0)[0])):
        left, right = values[:, 1:].astype(np.int64), values[:, :-1].astype(np.int64)
        highest = 255 * (np.maximum(left, 0) + np.maximum(right, 0))
        lowest = 255 * (np.minimum(left, 0) + np.minimum(right, 0))
        assert highest.max() <= 2**15 - 1, axis
        assert lowest.min() >= -(2**15), axis
        assert np.abs(values).max() == 127, axis  # and the range is used


def test_a_slice_of_zeros_has_scale_one() -> None:
    values, scales = quantize_weight(np.array([[0.0, 1.0], [0.0, -2.54]], dtype=np.float32), axis=1)
    assert values.tolist() == [[0, 50], [0, -127]]
    assert scales.tolist() == [1.0, pytest.approx(0.02)]


def test_a_row_of_zeros_gives_zeros() -> None:
    model = build()
    zeroed = EMBEDDING.copy()
    zeroed[5] = 0.0
    model.graph.initializers["embedding"].const_value = ir.tensor(zeroed, name="embedding")
    quantize_graph(model, embedding="embedding", keep=frozenset({"kept"}))
    found = run(model, [5, 6])
    assert np.array_equal(found["left_out"][0, 0], np.zeros(8, dtype=np.float32))
    assert np.abs(found["left_out"][0, 1]).max() > 0.0
