"""One door to all graphs: a checkpoint's graph at a precision, for a target, under the engine contract.

| target   | form of attention                                                        |
|----------|--------------------------------------------------------------------------|
| cpu      | the Attention operator (Qwen's over joined heads); BERT-shaped at int8   |
|          | and int4: spelt out with exact sums                                      |
| cuda     | the Attention operator                                                   |
| tensorrt | spelt out in plain operators                                             |

At bf16 keys and values leave the graph as float16, and biases come in so: every bfloat16 between 6e-5 and 65504 is a
float16 to the bit, and numpy, hence the engine, knows no bfloat16.
"""

import onnx_ir as ir
from transformers import BertLMHeadModel

from model_export import bert_graph, qwen_graph
from model_export.answer_graph import build_answer_graph
from model_export.checkpoint import Checkpoint
from model_export.contract import AttentionForm
from model_export.int4 import compress_graph
from model_export.quantize import quantize_graph
from relevance.artifact import GraphInfo, Precision, Target

DTYPES: dict[Precision, str] = {
    "fp32": "float32",
    "int8": "float32",
    "int4": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
}
ROUNDED: tuple[Precision, ...] = ("int8", "int4")
"""Weights and activations rounded to integers, by a pass over the float32 graph."""
KV_DTYPES: dict[Precision, str] = {**DTYPES, "bf16": "float16"}


def graph_info(checkpoint: Checkpoint, precision: Precision) -> GraphInfo:
    """What the manifest says of the graph."""
    if isinstance(checkpoint.model, BertLMHeadModel):
        return bert_graph.bert_graph_info(checkpoint.model, KV_DTYPES[precision])
    return qwen_graph.qwen_graph_info(checkpoint.model, KV_DTYPES[precision])


def build_graph(checkpoint: Checkpoint, precision: Precision, target: Target) -> ir.Model:
    """The graph, its weights in memory."""
    labels, dtype = checkpoint.label_token_ids, DTYPES[precision]
    form: AttentionForm = "plain" if target == "tensorrt" else "exact" if precision in ROUNDED else "operator"
    if isinstance(checkpoint.model, BertLMHeadModel):
        kv_dtype = KV_DTYPES[precision]
        model = bert_graph.build_bert_graph(checkpoint.model, labels, dtype, form=form, kv_dtype=kv_dtype)
        embedding, keep = bert_graph.EMBEDDING, bert_graph.KEEP
    else:
        qwen_form: AttentionForm = "joined" if target == "cpu" else form
        info = graph_info(checkpoint, precision)
        model = qwen_graph.build_qwen_graph(checkpoint.model, info, labels, dtype, qwen_form)
        embedding, keep = qwen_graph.EMBEDDING, frozenset({qwen_graph.LABEL_HEAD})
    _round_weights(model, precision, embedding, keep)
    return model


def _round_weights(model: ir.Model, precision: Precision, embedding: str, keep: frozenset[str]) -> None:
    """The passes of int8 and int4; the token embedding and vocabulary head are int8 in both."""
    if precision == "int4":
        compress_graph(model, keep)
    if precision in ROUNDED:
        quantize_graph(model, embedding=embedding, keep=keep)


def build_answers(checkpoint: Checkpoint, precision: Precision, target: Target) -> ir.Model | None:
    """The graph that answers grow by, where there is one: BERT-shaped, on a processor, at fp32, int8 and int4."""
    if not isinstance(checkpoint.model, BertLMHeadModel) or target != "cpu" or precision not in ("fp32", *ROUNDED):
        return None
    model = build_answer_graph(checkpoint.model, DTYPES[precision], "exact" if precision in ROUNDED else "plain")
    _round_weights(model, precision, bert_graph.EMBEDDING, bert_graph.KEEP)
    return model
