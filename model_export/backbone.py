"""One door to all graphs: a checkpoint's graph at a precision, for a target, under the engine contract.

| target   | Qwen3                                    | BERT-shaped                      |
|----------|------------------------------------------|----------------------------------|
| cpu      | `qwen_graph`: GroupQueryAttention        | `bert_graph`, at int8 exact sums |
| cuda     | `standard_qwen`: the Attention operator  | `bert_graph`: the same operator  |
| tensorrt | `standard_qwen`: plain operators         | `bert_graph`: plain operators    |

At bf16 keys and values leave the graph as float16, and biases come in so: every bfloat16 between 6e-5 and 65504 is a
float16 to the bit, and numpy, hence the engine, knows no bfloat16.
"""

from pathlib import Path

import onnx_ir as ir
from transformers import BertLMHeadModel

from model_export import bert_graph, qwen_graph
from model_export.checkpoint import Checkpoint
from model_export.contract import AttentionForm
from model_export.quantize import quantize_graph
from model_export.standard_qwen import build_standard_qwen
from relevance.artifact import GraphInfo, Precision, Target

DTYPES: dict[Precision, str] = {"fp32": "float32", "int8": "float32", "fp16": "float16", "bf16": "bfloat16"}
KV_DTYPES: dict[Precision, str] = {**DTYPES, "bf16": "float16"}


def graph_info(checkpoint: Checkpoint, precision: Precision) -> GraphInfo:
    """What the manifest says of the graph."""
    if isinstance(checkpoint.model, BertLMHeadModel):
        return bert_graph.bert_graph_info(checkpoint.model, KV_DTYPES[precision])
    return qwen_graph.qwen_graph_info(checkpoint.model, KV_DTYPES[precision])


def build_graph(checkpoint: Checkpoint, precision: Precision, target: Target, work: Path) -> ir.Model:
    """The graph; large weights may stay in files under `work` until it is saved."""
    labels, dtype = checkpoint.label_token_ids, DTYPES[precision]
    form: AttentionForm = "plain" if target == "tensorrt" else "exact" if precision == "int8" else "operator"
    if isinstance(checkpoint.model, BertLMHeadModel):
        kv_dtype = KV_DTYPES[precision]
        model = bert_graph.build_bert_graph(checkpoint.model, labels, dtype, form=form, kv_dtype=kv_dtype)
        embedding, keep = bert_graph.EMBEDDING, bert_graph.KEEP
    elif target == "cpu":
        model = qwen_graph.build_qwen_graph(checkpoint.model, checkpoint.folder, labels, dtype, work)
        embedding, keep = qwen_graph.EMBEDDING, frozenset({qwen_graph.LABEL_HEAD})
    else:
        info = graph_info(checkpoint, precision)
        return build_standard_qwen(checkpoint.model, info, labels, dtype, form)
    if precision == "int8":
        quantize_graph(model, embedding=embedding, keep=keep)
    return model
