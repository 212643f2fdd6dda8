"""One door to both backbones: a checkpoint's graph at a precision, under the engine contract."""

from pathlib import Path

import onnx_ir as ir
from transformers import BertLMHeadModel

from model_export import bert_graph, qwen_graph
from model_export.checkpoint import Checkpoint
from model_export.quantize import quantize_graph
from relevance.artifact import GraphInfo, Precision

DTYPES: dict[Precision, str] = {"fp32": "float32", "int8": "float32", "fp16": "float16"}


def graph_info(checkpoint: Checkpoint, precision: Precision) -> GraphInfo:
    """What the manifest says of the graph."""
    if isinstance(checkpoint.model, BertLMHeadModel):
        return bert_graph.bert_graph_info(checkpoint.model, DTYPES[precision])
    return qwen_graph.qwen_graph_info(checkpoint.model, DTYPES[precision])


def build_graph(checkpoint: Checkpoint, precision: Precision, work: Path) -> ir.Model:
    """The graph; large weights may stay in files under `work` until it is saved."""
    labels, dtype = checkpoint.label_token_ids, DTYPES[precision]
    if isinstance(checkpoint.model, BertLMHeadModel):
        model = bert_graph.build_bert_graph(checkpoint.model, labels, dtype, exact_sums=precision == "int8")
        embedding, keep = bert_graph.EMBEDDING, bert_graph.KEEP
    else:
        model = qwen_graph.build_qwen_graph(checkpoint.model, checkpoint.folder, labels, dtype, work)
        embedding, keep = qwen_graph.EMBEDDING, frozenset({qwen_graph.LABEL_HEAD})
    if precision == "int8":
        quantize_graph(model, embedding=embedding, keep=keep)
    return model
