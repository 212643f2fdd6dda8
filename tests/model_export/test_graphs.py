"""The graph contract, on both backbones and both CPU precisions: what an engine may rely on.

Rows are fed to ONNX Runtime by hand here, so that these tests and the engine cannot share a mistake.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from transformers import Qwen3Config, Qwen3ForCausalLM

from model_export.checkpoint import Checkpoint, load_checkpoint
from modeling.forward import prompt_states, vocabulary_logits
from relevance.artifact import Artifact, GraphInfo, load_artifact
from tests.model_export.conftest import publish

# Logits are of the order of 1 to 10; float32 sums in another order differ by about 1e-6 of that.
EXACT = 1e-4
# int8: masked slots weigh exp(-60), so neighbours are invisible to float32; only a matrix's tail rows may be
# multiplied by another kernel and round differently, which can tip one activation by one of 127 steps.
NEARLY = {"fp32": 1e-4, "int8": 2e-2}


@dataclass
class Row:
    """One row of graph inputs, written down token by token: (id, position, past slots seen, row slots seen)."""

    past: list[NDArray[np.float32]]
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sees: list[tuple[range, range]] = field(default_factory=list)

    def add(self, ids: list[int], first_position: int, past: range) -> None:
        """A causal segment."""
        start = len(self.ids)
        for offset, token in enumerate(ids):
            self.ids.append(token)
            self.positions.append(first_position + offset)
            self.sees.append((past, range(start, start + offset + 1)))

    def feed(self, artifact: Artifact, read: list[int]) -> dict[str, NDArray[np.generic]]:
        graph = artifact.manifest.graph
        num_past, num_tokens = self.past[0].shape[2], len(self.ids)
        bias = np.full((num_tokens, num_past + num_tokens), graph.masked_bias, dtype=np.float32)
        for token, (past, own) in enumerate(self.sees):
            bias[token, list(past)] = 0.0
            bias[token, [num_past + slot for slot in own]] = 0.0
        names = [f"past_key_values.{layer}.{kind}" for layer in range(graph.num_layers) for kind in ("key", "value")]
        return {
            "input_ids": np.array([self.ids]),
            "position_ids": np.array([self.positions]),
            "attention_bias": bias[None, None],
            "output_positions": np.array(read),
            **dict(zip(names, self.past, strict=True)),
            **self._late_feed(graph, bias, len(read)),
        }

    def _late_feed(self, graph: GraphInfo, bias: NDArray[np.float32], num_read: int) -> dict[str, NDArray[np.generic]]:
        """Nothing is compared, and the lower layers see what the upper ones see."""
        if not graph.num_encoder_layers:
            return {}
        compared = np.zeros((num_read, len(self.ids)), np.float32)
        return {"lower_bias": bias[None, None], "compared_tokens": compared}


def null_past(artifact: Artifact) -> list[NDArray[np.float32]]:
    graph = artifact.manifest.graph
    return [np.zeros((1, graph.num_kv_heads, 1, graph.head_dim), np.float32) for _ in range(2 * graph.num_layers)]


def open_session(artifact: Artifact, optimized: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimized
    return onnxruntime.InferenceSession(artifact.graph_path, options, providers=["CPUExecutionProvider"])


def present_names(artifact: Artifact) -> list[str]:
    layers = range(artifact.manifest.graph.num_layers)
    return [f"present.{layer}.{kind}" for layer in layers for kind in ("key", "value")]


IDS = [7, 31, 90, 12, 45, 101, 8, 66, 17]


def test_token_by_token_equals_all_at_once(artifact: Artifact) -> None:
    session = open_session(artifact)
    whole = Row(null_past(artifact))
    whole.add(IDS, 0, range(0))
    feed = whole.feed(artifact, list(range(len(IDS)))) | {"vocab_rows": np.arange(len(IDS))}
    (expected,) = session.run(["vocab_logits"], feed)
    past = null_past(artifact)
    for step, token in enumerate(IDS):
        row = Row(past)
        row.add([token], step, range(1, 1 + step))
        feed = row.feed(artifact, [0]) | {"vocab_rows": np.array([0])}
        logits, *past = session.run(["vocab_logits", *present_names(artifact)], feed)
        assert past[0].shape[2] == 2 + step
        assert np.abs(logits[0] - expected[step]).max() <= NEARLY[artifact.manifest.precision]


def test_documents_in_one_row_do_not_see_each_other(artifact: Artifact) -> None:
    session = open_session(artifact)
    first, second, loud = IDS[:5], IDS[5:], [3, 196, 55, 180]
    found = []
    for neighbour in (second, loud):
        row = Row(null_past(artifact))
        row.add(first, 2, range(0))
        row.add(neighbour, 2, range(0))
        found.append(session.run(["label_logits"], row.feed(artifact, [4, 8]))[0])
    assert np.abs(found[0][1] - found[1][1]).max() > 0.05  # the neighbours do differ
    assert np.abs(found[0][0] - found[1][0]).max() <= 1e-5


def test_positions_count_not_places(artifact: Artifact) -> None:
    session = open_session(artifact)
    alone, packed, shifted = (Row(null_past(artifact)) for _ in range(3))
    alone.add(IDS, 4, range(0))
    packed.add(IDS[:3], 0, range(0))
    packed.add(IDS, 4, range(0))
    shifted.add(IDS[:4], 0, range(0))
    shifted.add(IDS[4:], 9, range(0))
    (expected,) = session.run(["label_logits"], alone.feed(artifact, [8]))
    (found,) = session.run(["label_logits"], packed.feed(artifact, [11]))
    assert np.abs(found - expected).max() <= NEARLY[artifact.manifest.precision]


def test_the_vocabulary_head_costs_nothing_unless_asked(artifact: Artifact) -> None:
    session = open_session(artifact)
    row = Row(null_past(artifact))
    row.add(IDS, 0, range(0))
    feed = row.feed(artifact, [2, 5, 8])
    graph = artifact.manifest.graph
    labels, nothing = session.run(["label_logits", "vocab_logits"], feed)
    assert nothing.shape == (0, graph.vocab_size)
    (some,) = session.run(["vocab_logits"], feed | {"vocab_rows": np.array([2, 0])})
    assert some.shape == (2, graph.vocab_size)
    label_ids = list(artifact.manifest.label_token_ids)
    if graph.num_encoder_layers:
        return  # its grades have a head of their own; test_vocabulary_logits_are_torchs has the rest
    # The label head is float32 in an int8 artifact, the vocabulary head is not: a few per cent of the logit.
    tolerance = EXACT if artifact.manifest.precision == "fp32" else 0.05 * np.abs(some).max()
    assert np.abs(some[:, label_ids] - labels[[2, 0]]).max() <= tolerance


def test_no_slow_fusions(artifact: Artifact, tmp_path: Path) -> None:
    # Its CPU kernel takes 8 times as long as LayerNormalization's; see the module docstrings of the graphs.
    path = tmp_path / "optimized.onnx"
    open_session(artifact, str(path))
    operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    assert not {"SkipLayerNormalization", "SkipSimplifiedLayerNormalization"} & operators


@pytest.mark.parametrize("name", ["bert_int8", "late_int8", "qwen_int8"])
def test_every_weight_but_the_heads_own_is_int8(name: str, request: pytest.FixtureRequest) -> None:
    graph = onnx.load(load_artifact(request.getfixturevalue(name)).graph_path).graph
    stored = {tensor.name for tensor in graph.initializer}
    exact = {node.input[1] for node in graph.node if node.op_type == "MatMul"} & stored
    assert exact <= {
        "label_head.weight",
        "cls.predictions.transform.dense.weight",
        "comparison.weight",
        "label_comparison.weight",
    }
    assert "label_head.weight" in exact
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in graph.node) >= 8


@pytest.mark.parametrize("backbone", ["bert", "late", "qwen"])
def test_vocabulary_logits_are_torchs(backbone: str, request: pytest.FixtureRequest) -> None:
    checkpoint: Checkpoint = load_checkpoint(str(request.getfixturevalue(f"{backbone}_folder")))
    artifact = load_artifact(request.getfixturevalue(f"{backbone}_fp32"))
    row = Row(null_past(artifact))
    row.add(IDS, 0, range(0))
    feed = row.feed(artifact, list(range(len(IDS)))) | {"vocab_rows": np.arange(len(IDS))}
    (found,) = open_session(artifact).run(["vocab_logits"], feed)
    with torch.inference_mode():
        prefix = torch.zeros(1, len(IDS), dtype=torch.long)
        states = prompt_states(checkpoint.model, torch.tensor([IDS]), prefix, "causal")
        expected = vocabulary_logits(checkpoint.model, states.hidden)[0].numpy()
    assert np.abs(found - expected).max() <= EXACT * max(1.0, np.abs(expected).max())


def test_an_untied_head_is_a_weight_of_its_own(qwen_folder: Path, tmp_path: Path) -> None:
    config = Qwen3Config.from_pretrained(qwen_folder, tie_word_embeddings=False)
    folder = shutil.copytree(qwen_folder, tmp_path / "untied")
    torch.manual_seed(1)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    artifact = load_artifact(publish(folder, tmp_path / "out", "int8"))
    stored = {tensor.name for tensor in onnx.load(artifact.graph_path).graph.initializer}
    assert {"model.embed_tokens.weight.int8", "vocab_head.weight.int8"} <= stored
    row = Row(null_past(artifact))
    row.add(IDS, 0, range(0))
    feed = row.feed(artifact, [8]) | {"vocab_rows": np.array([0])}
    labels, vocab = open_session(artifact).run(["label_logits", "vocab_logits"], feed)
    found = vocab[:, list(artifact.manifest.label_token_ids)]
    assert np.abs(found - labels).max() <= 0.05 * np.abs(vocab).max()
