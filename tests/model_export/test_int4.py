"""int4 weights: the formula of the docstring, through the same gate, and the same score in any company."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from engine.local import LocalScorer
from engine.ort import OrtEngine
from model_export.__main__ import main, parse
from model_export.int4 import BLOCK, compress_graph, quantize_weight
from relevance.artifact import load_artifact
from relevance.pair import Pair
from tests.model_export.conftest import publish

RNG = np.random.default_rng(11)
SIZE, WIDTH = 40, 6  # a block and a quarter of one
WEIGHT = RNG.standard_normal((SIZE, WIDTH)).astype(np.float32) * RNG.uniform(0.01, 5.0, (1, WIDTH)).astype(np.float32)
PAIRS = [Pair(query, text) for query in ("usb c cable", "2") for text in ("USB-C cable 1 m", "", "egg " * 60, "socks")]


def unpacked(values: np.ndarray, scales: np.ndarray, size: int) -> np.ndarray:
    """[C, J] from what MatMulNBits is given, by its documented layout."""
    steps = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], BLOCK).astype(np.float32) - 8
    return (steps * scales[..., None]).reshape(len(values), -1)[:, :size].T


def test_weights_are_within_half_a_step_and_the_largest_is_exact() -> None:
    values, scales = quantize_weight(WEIGHT)
    assert values.shape == (WIDTH, 2, BLOCK // 2)
    assert scales.shape == (WIDTH, 2)
    found = unpacked(values, scales, SIZE)
    step = np.repeat(np.abs(scales), BLOCK, axis=1)[:, :SIZE].T
    # A value of the other sign may want step 8, which there is not: it may be a whole step off.
    opposite = np.sign(WEIGHT) == np.sign(np.repeat(scales, BLOCK, axis=1)[:, :SIZE].T)
    assert (np.abs(found - WEIGHT) <= np.where(opposite, 1.001, 0.501) * step).all()
    first = WEIGHT[:BLOCK]
    largest = np.abs(first).argmax(axis=0), np.arange(WIDTH)
    np.testing.assert_allclose(found[:BLOCK][largest], first[largest], rtol=1e-6)


def test_a_block_of_zeros_has_scale_one() -> None:
    values, scales = quantize_weight(np.zeros((BLOCK, 2), np.float32))
    assert (scales == 1.0).all()
    assert not unpacked(values, scales, BLOCK).any()


def product(weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`rows` times the compressed `weight`, by ONNX Runtime."""
    x = ir.val("x", ir.DataType.FLOAT, ["S", weight.shape[0]])
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 23, "com.microsoft": 1}, name="test")
    constant = ir.val("w", const_value=ir.tensor(weight, name="w"))
    graph.register_initializer(constant)
    tape = ir.tape.Tape(graph)
    output = tape.op("MatMul", [x, constant])
    output.name, output.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(output)
    model = ir.Model(graph, ir_version=11)
    compress_graph(model, frozenset())
    assert "w" not in graph.initializers
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": rows})[0]
    return found


def test_products_are_those_of_the_rounded_weights() -> None:
    rows = RNG.standard_normal((5, SIZE)).astype(np.float32) * np.array(
        [[1.0], [30.0], [0.01], [2.0], [0.0]], np.float32
    )
    expected = rows @ unpacked(*quantize_weight(WEIGHT), SIZE)
    # Activations are rounded to one of 127 steps a block.
    assert (
        np.abs(product(WEIGHT, rows) - expected) <= 0.02 * np.abs(rows).max(1, keepdims=True) * np.abs(WEIGHT).sum(0)
    ).all()


@pytest.mark.parametrize("num_rows", [1, 2, 3, 7, 16, 33])
def test_a_row_does_not_depend_on_its_neighbours(num_rows: int) -> None:
    rows = RNG.standard_normal((50, SIZE)).astype(np.float32) * RNG.uniform(0.01, 30.0, (50, 1)).astype(np.float32)
    np.testing.assert_array_equal(product(WEIGHT, rows[9 : 9 + num_rows]), product(WEIGHT, rows)[9 : 9 + num_rows])


@pytest.fixture(scope="module")
def late_int4(late_folder: Path) -> Path:
    return publish(late_folder, late_folder.with_name("late-int4"), "int4")


def test_scores_are_the_same_to_the_bit_in_any_company(late_int4: Path) -> None:
    scorer = LocalScorer.open(late_int4, num_threads=1)
    alone = np.concatenate([scorer.label_logits([pair]) for pair in PAIRS])
    assert np.ptp(alone, axis=0).max() > 1e-3
    for pack_tokens in (1, 32, 4096):
        packed = LocalScorer(scorer.artifact, OrtEngine(scorer.artifact, num_threads=1), pack_tokens)
        np.testing.assert_array_equal(packed.label_logits(PAIRS), alone)


def test_weights_are_int4_and_the_embedding_int8(late_int4: Path, late_int8: Path) -> None:
    smaller, larger = (onnx.load(load_artifact(folder).graph_path).graph for folder in (late_int4, late_int8))
    operators = [node.op_type for node in smaller.node]
    num_products = sum(node.op_type == "MatMulIntegerToFloat" for node in larger.node)
    assert operators.count("MatMulIntegerToFloat") == 1  # the vocabulary head
    assert operators.count("MatMulNBits") == num_products - 1
    sizes = [sum(len(tensor.raw_data) for tensor in graph.initializer) for graph in (smaller, larger)]
    assert sizes[0] < sizes[1]


def test_an_int4_manifest_says_so_and_shows_its_gate(late_int4: Path) -> None:
    manifest = load_artifact(late_int4).manifest
    assert manifest.precision == "int4"
    assert manifest.parity.agreements[-1].compared == "onnx fp32 -> onnx int4"
    assert set(manifest.parity.thresholds) == {"fp32", "int4"}


def test_qwen_is_exported_by_the_command(qwen_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gate = ["--num-parity-pairs", "16", "--threshold", "int4.kendall_tau=-1", "--threshold", "int4.decided_flips=1"]
    loose = ["--threshold", "int4.max_difference=1", "--threshold", "int4.mean_difference=1"]
    assert main([str(qwen_folder), str(out), "--precision", "int4", *gate, *loose]) == 0
    assert LocalScorer.open(out, num_threads=1).distributions(PAIRS[:2]).shape == (2, 4)


def test_a_gpu_takes_no_int4() -> None:
    with pytest.raises(SystemExit):
        parse(["checkpoint", "out", "--target", "cuda", "--precision", "int4"])
