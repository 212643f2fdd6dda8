"""The work that ONNX Runtime is left with: operators of the graph as it optimises it, and what is copied into a run.

A lost fusion, a tensor quantised twice, or a prefix copied for each pack are all counted here, without a clock. Counts
follow from how the graphs are written (`model_export/bert_graph.py`, `qwen_graph.py`, `quantize.py`); they hold for the
ONNX Runtime that pyproject.toml pins.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from engine.base import DocumentWork
from engine.ort import OrtEngine
from engine.session import GraphSession
from relevance.artifact import Artifact, load_artifact

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"
# Operators of the whole graph when the limit was set; a tenth more is let through.
NUM_OPERATORS = {"bert_int8": 193, "late_int8": 313, "qwen_int8": 159}


@pytest.fixture(params=NUM_OPERATORS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def artifact(name: str, request: pytest.FixtureRequest) -> Artifact:
    return load_artifact(request.getfixturevalue(name))


@pytest.fixture
def operators(artifact: Artifact, tmp_path: Path) -> Counter[str]:
    """Nodes by operator, after ONNX Runtime's own optimisation."""
    path = tmp_path / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(artifact.graph_path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


def num_layers(artifact: Artifact) -> int:
    """Transformer layers: `late` attention keeps one slot of KV more than it has layers."""
    graph = artifact.manifest.graph
    return graph.num_layers - bool(graph.num_encoder_layers)


def test_products_are_int8_and_their_inputs_are_quantised_once(
    name: str, artifact: Artifact, operators: Counter[str]
) -> None:
    # Of a BERT-shaped layer: query, key and value at once, attention's output, and the feed-forward's two; of a Qwen3
    # layer each of its seven weights, of which query, key and value read one tensor, and gate and up another. The last
    # layer asks for its query apart, of fewer tokens. And the vocabulary head.
    layers, is_qwen = num_layers(artifact), name.startswith("qwen")
    assert operators["MatMulIntegerToFloat"] == (7 * layers + 1 if is_qwen else 4 * layers + 2)
    assert operators["QuantizeLinear"] == 4 * layers + 2
    assert operators["MatMulInteger"] == operators["DynamicQuantizeLinear"] == operators["DequantizeLinear"] == 0


def test_what_can_be_one_operator_is_one(name: str, artifact: Artifact, operators: Counter[str]) -> None:
    layers = num_layers(artifact)
    if name.startswith("qwen"):
        assert operators["Attention"] == operators["QuickGelu"] == layers  # QuickGelu is silu here
        assert operators["RMSNormalization"] == 4 * layers + 1
    else:
        assert operators["LayerNormalization"] == 2 * layers + 2
        assert operators["BiasGelu"] == layers
    assert operators["Erf"] == operators["Softmax"] == 0


def test_the_graph_has_not_grown(name: str, operators: Counter[str]) -> None:
    # Every operator costs some microseconds, in a small model as much as its arithmetic.
    assert sum(operators.values()) <= 1.1 * NUM_OPERATORS[name]


class Recorded:
    """A session that keeps what it was fed with."""

    def __init__(self, session: GraphSession) -> None:
        self.feeds: list[dict[str, Any]] = []
        run = session.onnx.run

        def recorded(outputs: list[str], feed: dict[str, Any]) -> Any:
            self.feeds.append(feed)
            return run(outputs, feed)

        session.onnx.run = recorded


def test_a_pack_behind_one_prefix_copies_none_of_its_kv() -> None:
    artifact = load_artifact(TINY)
    session = GraphSession(artifact, num_threads=1)
    recorded = Recorded(session)
    engine = OrtEngine(artifact, session=session)
    (prefix,) = engine.prefill_prefixes([range(2, 40)])
    recorded.feeds.clear()
    engine.score_documents([DocumentWork(prefix, (50, 51, 3)), DocumentWork(prefix, (52, 3))])
    (feed,) = recorded.feeds
    kept = [array for pair in zip(prefix.keys, prefix.values, strict=True) for array in pair]
    assert all(np.shares_memory(feed[name], array) for name, array in zip(session.past_names, kept, strict=True))
    assert "vocab_rows" not in feed  # nor is the vocabulary head computed


def test_no_row_is_padded() -> None:
    artifact = load_artifact(TINY)
    engine = OrtEngine(artifact, num_threads=1)
    (prefix,) = engine.prefill_prefixes([range(2, 40)])
    before = engine.num_row_tokens
    engine.score_documents([DocumentWork(prefix, tuple(range(50, 50 + size))) for size in (3, 60, 2)])
    assert engine.num_row_tokens - before == 65
