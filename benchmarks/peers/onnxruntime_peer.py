"""Plain padded ONNX Runtime: the exported graph in float32 or after `quantize_dynamic`, all optimisations on."""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.peers.peer import Files, Peer, Setting
from benchmarks.peers.plain_graph import INPUTS, graph_path, make_graphs
from benchmarks.peers.prompts import Integers, PaddedPeer, load_encoder


def prepare(files: Files, setting: Setting) -> None:
    """Export and quantise what is not there."""
    make_graphs(files, setting.precision)


def open_peer(files: Files, setting: Setting, threads: int, batch_tokens: int) -> Peer:
    """Load the graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(
        str(graph_path(files, setting.precision)), options, providers=["CPUExecutionProvider"]
    )
    wanted = {value.name for value in session.get_inputs()}

    def run(ids: Integers, segments: Integers, last: Integers) -> NDArray[np.float32]:
        feeds = dict(zip(INPUTS, (ids, segments, last), strict=True))
        (logits,) = session.run(None, {name: value for name, value in feeds.items() if name in wanted})
        return np.asarray(logits, dtype=np.float32)

    return PaddedPeer(run, load_encoder(files.checkpoint, files.spec), batch_tokens)
