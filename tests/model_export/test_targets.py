"""Graphs for GPUs, checked where there is none: standard operators only, and equal to torch."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.local import self_test
from engine.ort import OrtEngine
from engine.tensorrt import MOST, input_shapes
from model_export.__main__ import main, parse
from model_export.contract import PLAIN_OPSET
from model_export.profiles import make_profiles
from relevance.artifact import Artifact, load_artifact
from relevance.errors import ArtifactError
from relevance.prompt import PromptLimits

# What TensorRT's parser has known since versions 8.4 to 10 (onnx-tensorrt, docs/operators.md).
TENSORRT_OPERATORS = set(
    "Abs Add And Cast Concat Constant ConstantOfShape Cos Div Equal Exp Expand Gather Gelu Greater Identity "  # noqa: SIM905
    "LayerNormalization MatMul Max Mul Neg Pow Range ReduceL2 ReduceMax ReduceMean ReduceSum Reshape Shape Sigmoid Sin "
    "Slice Softmax Split Sqrt Squeeze Sub Transpose Unsqueeze Where".split()
)


@pytest.fixture(scope="module", params=["qwen", "late"])
def tensorrt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An artifact for TensorRT, past its gates: float32 against torch, float16 against float32."""
    out = tmp_path_factory.mktemp("tensorrt") / request.param
    assert main([str(request.getfixturevalue(f"{request.param}_folder")), str(out), "--target", "tensorrt"]) == 0
    return load_artifact(out)


def test_a_graph_for_tensorrt_has_only_operators_it_knows(tensorrt: Artifact) -> None:
    model = onnx.load(tensorrt.graph_path)
    onnx.checker.check_model(model)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": PLAIN_OPSET}
    operators = Counter(node.op_type for node in model.graph.node)
    assert set(operators) <= TENSORRT_OPERATORS
    assert operators["Softmax"] == tensorrt.manifest.graph.num_layers - bool(tensorrt.manifest.graph.num_encoder_layers)


def test_it_was_compared_with_torch_by_the_graph_that_is_published(tensorrt: Artifact) -> None:
    manifest = tensorrt.manifest
    assert (manifest.target, manifest.precision) == ("tensorrt", "fp16")
    assert [one.compared for one in manifest.parity.agreements] == ["torch fp32 -> onnx fp32", "onnx fp32 -> onnx fp16"]
    assert manifest.parity.agreements[0].max_difference <= 1e-5
    engine = OrtEngine(tensorrt, num_threads=1)
    assert self_test(tensorrt, engine) <= 1e-4
    engine.close()


def test_no_input_has_a_default_that_tensorrt_would_take_for_a_constant(tensorrt: Artifact) -> None:
    graph = onnx.load(tensorrt.graph_path).graph
    names = {value.name for value in graph.input}
    assert not names & {tensor.name for tensor in graph.initializer}
    assert names == set(input_shapes(tensorrt.manifest.graph, tensorrt.manifest.profiles[0], MOST))


def test_buckets_have_no_gap_and_hold_the_longest_prompt() -> None:
    limits = PromptLimits(max_tokens=8192, max_query_tokens=64)
    profiles = make_profiles(limits)
    edges = [edge for profile in profiles for edge in (profile.num_tokens[0], profile.num_tokens[-1])]
    assert edges[0] == 1
    assert edges[-1] == limits.max_tokens
    assert [second - first for first, second in zip(edges[1:-1:2], edges[2::2], strict=True)] == [1] * 3
    for profile in profiles:
        for sizes in (profile.num_tokens, profile.num_past, profile.num_read):
            assert sizes == tuple(sorted(sizes))
        assert profile.num_past[-1] == limits.max_tokens + 1


def test_an_export_for_tensorrt_says_how_to_build_it_by_hand(
    qwen_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(qwen_folder), str(tmp_path / "out"), "--target", "tensorrt", "--precision", "fp32"]) == 0
    assert f"trtexec --onnx={tmp_path / 'out' / 'model.onnx'}" in capsys.readouterr().out


@pytest.mark.parametrize("backbone", ["qwen", "late"])
def test_bfloat16_for_cuda_passes_its_gate_in_a_graph_widened_for_the_processor(
    backbone: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main([str(request.getfixturevalue(f"{backbone}_folder")), str(out), "--precision", "bf16"]) == 0
    artifact = load_artifact(out)
    assert artifact.manifest.target == "cuda"
    assert artifact.manifest.graph.kv_dtype == "float16"  # holds every bfloat16 of this size to the bit
    compared = artifact.manifest.parity.agreements[-1]
    assert compared.compared == "onnx fp32 -> onnx bf16"
    assert 1e-4 < compared.mean_difference < 1e-2  # eight bits of mantissa show, and do no harm
    graph = onnx.load(artifact.graph_path).graph
    weights = Counter(tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2)
    assert weights.most_common(1)[0][0] == onnx.TensorProto.BFLOAT16
    operators = {node.op_type for node in graph.node}
    assert "Attention" in operators
    assert {node.domain for node in graph.node} == {""}
    with pytest.raises(ArtifactError, match="cannot load it"):
        OrtEngine(artifact)


def test_float16_for_cuda_uses_no_operator_that_cuda_refuses(qwen_folder: Path, tmp_path: Path) -> None:
    # GroupQueryAttention with a bias: refused by CUDA's kernel, and unfused where it is not.
    assert main([str(qwen_folder), str(tmp_path / "out"), "--target", "cuda"]) == 0
    artifact = load_artifact(tmp_path / "out")
    operators = {node.op_type for node in onnx.load(artifact.graph_path).graph.node}
    assert {"Attention", "RMSNormalization"} <= operators
    assert "GroupQueryAttention" not in operators
    distributions = np.array([pair.distribution for pair in artifact.manifest.golden_pairs])
    assert np.ptp(distributions, axis=0).max() > 0.05  # grades do differ


@pytest.mark.parametrize(
    ("arguments", "target", "precision"),
    [
        ([], "cpu", "int8"),
        (["--precision", "fp16"], "cuda", "fp16"),
        (["--target", "cuda"], "cuda", "fp16"),
        (["--target", "tensorrt", "--precision", "bf16"], "tensorrt", "bf16"),
        (["--precision", "fp32"], "cpu", "fp32"),
    ],
)
def test_target_and_precision_follow_from_one_another(arguments: list[str], target: str, precision: str) -> None:
    options = parse(["checkpoint", "out", *arguments])
    assert (options.target, options.precision) == (target, precision)


def test_int8_is_the_processors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["checkpoint", "out", "--target", "cuda", "--precision", "int8"])
    assert "the target cuda takes fp16, bf16, fp32" in capsys.readouterr().err
