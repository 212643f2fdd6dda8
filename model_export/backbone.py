"""One door to both backbones: a checkpoint's graph at a precision, under the engine contract."""

from pathlib import Path

import onnx_ir as ir
from transformers import BertLMHeadModel

from model_export import bert_graph
from model_export.checkpoint import Checkpoint
from model_export.errors import ExportError
from model_export.quantize import quantize_graph
from relevance.artifact import GraphInfo, Precision

DTYPES: dict[Precision, str] = {"fp32": "float32", "int8": "float32", "fp16": "float16"}


def graph_info(checkpoint: Checkpoint, precision: Precision) -> GraphInfo:
    """What the manifest says of the graph."""
    if isinstance(checkpoint.model, BertLMHeadModel):
        return bert_graph.bert_graph_info(checkpoint.model, DTYPES[precision])
    raise ExportError(f"no graph for {checkpoint.architecture}")


def build_graph(checkpoint: Checkpoint, precision: Precision, work: Path) -> ir.Model:
    """The graph, in memory or with its weights in files under `work`."""
    assert isinstance(checkpoint.model, BertLMHeadModel)
    model = bert_graph.build_bert_graph(checkpoint.model, checkpoint.label_token_ids, DTYPES[precision])
    if precision == "int8":
        quantize_graph(model, embedding=bert_graph.EMBEDDING, keep=frozenset({bert_graph.LABEL_HEAD}))
    return model
