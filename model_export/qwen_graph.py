"""Qwen3 of any size as an ONNX graph under the engine contract.

The graph comes from `onnxruntime_genai.models.builder`, which fuses attention (GroupQueryAttention), RMSNorm and
rotary embedding and leaves the head out. This pass makes it the contract's:

1. GroupQueryAttention gets `position_ids` and `attention_bias`, inputs the builder leaves empty: the bias is what
   lets many documents lie in one row, the positions what restarts each behind its prefix.
2. The lengths it wants (`seqlens_k` = P + S - 1, `total_sequence_length` = P + S) come from the bias' shape instead
   of an attention mask, which goes away.
3. The last layer goes on behind its attention with `output_positions` only.
4. Two heads instead of none: the K rows of the grades in float32, and the whole vocabulary for `vocab_rows`; where
   the checkpoint ties them, the latter is the transposed token embedding, stored once.
5. Residual and norm become two operators. The builder's SkipSimplifiedLayerNormalization has a slow CPU kernel.

GroupQueryAttention ignores `position_ids` in a first prompt, when nothing is past. The contract's null slot sees
to it that something always is.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.convenience import replace_all_uses_with
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime_genai.models import builder  # type: ignore[import-untyped]
from transformers import PreTrainedModel

from model_export.contract import FLOATS, ContractInputs, make_inputs, set_outputs
from model_export.errors import ExportError
from relevance.artifact import GraphInfo

EMBEDDING = "model.embed_tokens.weight"
LABEL_HEAD = "label_head.weight"
MASKED_BIAS = -60.0
"""See `bert_graph`."""

_ATTENTION = "GroupQueryAttention"
_SKIP_NORM = "SkipSimplifiedLayerNormalization"
_BUILDER_OPTIONS = ["exclude_lm_head=true", "fuse_qk_norm_gqa=false", "hf_remote=false"]


def qwen_graph_info(model: PreTrainedModel, dtype: str) -> GraphInfo:
    """What the manifest says of the graph; `dtype` is that of weights, KV and bias."""
    config = model.config
    return GraphInfo.model_validate(
        {
            "architecture": config.model_type,
            "num_layers": config.num_hidden_layers,
            "num_kv_heads": config.num_key_value_heads,
            "head_dim": config.head_dim,
            "hidden_size": config.hidden_size,
            "vocab_size": config.vocab_size,
            "max_positions": config.max_position_embeddings,
            "kv_dtype": dtype,
            "bias_dtype": dtype,
            "masked_bias": MASKED_BIAS,
        }
    )


def build_qwen_graph(
    model: PreTrainedModel, folder: Path, label_token_ids: tuple[int, ...], dtype: str, work: Path
) -> ir.Model:
    """The graph of the checkpoint in `folder`; its weights stay in files under `work` until it is saved."""
    built = _run_builder(folder, dtype, work / f"builder-{dtype}")
    graph, info = built.graph, qwen_graph_info(model, dtype)
    attentions = [node for node in graph if node.op_type == _ATTENTION]
    if len(attentions) != info.num_layers:
        raise ExportError(f"the builder made {len(attentions)} {_ATTENTION} nodes for {info.num_layers} layers")
    inputs = make_inputs(info)
    rewrite = _Rewrite(graph, inputs)
    rewrite.attend(attentions)
    hidden = rewrite.read_positions(attentions[-1])
    logits = _Heads(graph, model, dtype).append(hidden, inputs.vocab_rows, label_token_ids)
    set_outputs(graph, info, logits, [(node.outputs[1], node.outputs[2]) for node in attentions])
    graph.inputs.clear()
    graph.inputs.extend(inputs.in_order)
    graph.register_initializer(inputs.vocab_rows)
    RemoveUnusedNodesPass()(built)
    graph.sort()
    return built


def _run_builder(folder: Path, dtype: str, out: Path) -> ir.Model:
    if (out / "model.onnx").is_file():  # the int8 graph starts from the float32 one
        return ir.load(out / "model.onnx")
    precision, provider = ("fp32", "cpu") if dtype == "float32" else ("fp16", "cuda")
    where = (str(folder), str(folder), str(out), precision, provider, str(out / "cache"))
    with contextlib.redirect_stdout(sys.stderr):
        options = builder.parse_extra_options(*where, list(_BUILDER_OPTIONS))
        builder.create_model(*where, **options)
    return ir.load(out / "model.onnx")


class _Rewrite:
    """Steps 1 to 3 and 5 of the module docstring."""

    def __init__(self, graph: ir.Graph, inputs: ContractInputs) -> None:
        self._graph = graph
        self._inputs = inputs

    def attend(self, attentions: list[ir.Node]) -> None:
        """Feed the contract's inputs to every attention node."""
        old = {value.name: value for value in self._graph.inputs}
        for value in self._inputs.in_order:
            if value.name in old:
                replace_all_uses_with(old[value.name], value)
        tape = ir.tape.Tape()
        total = tape.op("Shape", [self._inputs.attention_bias], {"start": 3, "end": 4})
        total = tape.op("Cast", [total], {"to": ir.DataType.INT32})
        one = tape.op("Constant", [], {"value": ir.tensor(np.ones(1, dtype=np.int32))})
        last = tape.op("Sub", [total, one])
        self._graph.insert_before(attentions[0], tape.nodes)
        for node in attentions:
            for index, value in (
                (5, last),
                (6, total),
                (9, self._inputs.position_ids),
                (10, self._inputs.attention_bias),
            ):
                node.replace_input_with(index, value)

    def read_positions(self, last_attention: ir.Node) -> ir.Value:
        """Cut the row to `output_positions` behind the last attention; the final hidden states [1, N, H]."""
        attended = last_attention.outputs[0]
        norms = [node for node in self._graph if node.op_type == _SKIP_NORM]
        after = norms[-2]  # the last layer's; the final one is norms[-1]
        residual = after.inputs[0]
        assert residual is not None
        for value, readers in ((attended, [n for n, _ in attended.uses()]), (residual, [after])):
            tape = ir.tape.Tape()
            cut = tape.op("Gather", [value, self._inputs.output_positions], {"axis": 1})
            self._graph.insert_before(readers[0], tape.nodes)
            for reader in readers:
                reader.replace_input_with(list(reader.inputs).index(value), cut)
        return self._split_norms(norms)

    def _split_norms(self, norms: list[ir.Node]) -> ir.Value:
        """Sum, then norm; the last norm's output."""
        for node in norms:
            summed, norm = node.inputs[:2], node.inputs[2]
            tape = ir.tape.Tape()
            total = tape.op("Add", summed)
            normed = tape.op("SimplifiedLayerNormalization", [total, norm], dict(node.attributes))
            self._graph.insert_before(node, tape.nodes)
            replace_all_uses_with(node.outputs[0], normed, replace_graph_outputs=True)
            if len(node.outputs) > 3:
                replace_all_uses_with(node.outputs[3], total)
            self._graph.remove(node, safe=True)
        return normed


class _Heads:
    """Step 4: from final hidden states to logits."""

    def __init__(self, graph: ir.Graph, model: PreTrainedModel, dtype: str) -> None:
        self._graph = graph
        self._model = model
        self._dtype = dtype

    def _initializer(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def append(
        self, hidden: ir.Value, vocab_rows: ir.Value, label_token_ids: tuple[int, ...]
    ) -> tuple[ir.Value, ir.Value]:
        """Label logits [N, K] and vocabulary logits [M, V], both float32."""
        weight = self._model.get_output_embeddings().weight.detach()
        labels = weight[list(label_token_ids)].float().numpy().T
        tape = ir.tape.Tape()
        flat = self._initializer("heads.shape", np.array([-1, weight.shape[1]], dtype=np.int64))
        hidden = tape.op("Reshape", [hidden, flat])
        exact = tape.op("Cast", [hidden], {"to": ir.DataType.FLOAT}) if self._dtype != "float32" else hidden
        label_logits = tape.op("MatMul", [exact, self._initializer(LABEL_HEAD, np.ascontiguousarray(labels))])
        rows = tape.op("Gather", [hidden, vocab_rows], {"axis": 0})
        if self._model.config.tie_word_embeddings:
            head = tape.op("Transpose", [self._graph.initializers[EMBEDDING]], {"perm": [1, 0]})
        else:
            untied = np.ascontiguousarray(weight.float().numpy().T.astype(self._dtype))
            head = self._initializer("vocab_head.weight", untied)
        vocab_logits = tape.op("MatMul", [rows, head])
        if self._dtype != "float32":
            vocab_logits = tape.op("Cast", [vocab_logits], {"to": FLOATS["float32"]})
        self._graph.extend(tape.nodes)
        return label_logits, vocab_logits
