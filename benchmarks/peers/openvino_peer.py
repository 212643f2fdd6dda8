"""OpenVINO over the same exported graph: float32, bfloat16 arithmetic (AMX where there is), or int8.

int8 is what its makers advise for transformers: `nncf.compress_weights` to symmetric int8, activations quantised as
they come (`DYNAMIC_QUANTIZATION_GROUP_SIZE`), the rest in bfloat16. One stream with all threads, the latency hint.
"""

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import Files, Peer, PeerMissing, Setting
from benchmarks.peers.plain_graph import INPUTS, graph_path, make_graphs
from benchmarks.peers.prompts import Integers, PaddedPeer, load_encoder

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
GROUP_SIZE = "64"
COMPRESSED = "openvino_int8.xml"


def prepare(files: Files, setting: Setting) -> None:
    """Export the graph, and compress it where that is asked."""
    openvino = _library("openvino")
    make_graphs(files, "fp32")
    if setting.precision == "int8" and not (files.work / COMPRESSED).is_file():
        nncf = _library("nncf")
        model = openvino.Core().read_model(str(graph_path(files, "fp32")))
        openvino.save_model(
            nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM),
            str(files.work / COMPRESSED),
            compress_to_fp16=False,
        )


def open_peer(files: Files, setting: Setting, threads: int, batch_tokens: int) -> Peer:
    """Read and compile for these threads."""
    openvino = _library("openvino")
    options = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[setting.precision],
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
    }
    path = graph_path(files, "fp32")
    if setting.precision == "int8":
        path = files.work / COMPRESSED
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = GROUP_SIZE
    model = openvino.Core().read_model(str(path))
    compiled = openvino.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    wanted = {name for port in compiled.inputs for name in port.get_names()}

    def run(ids: Integers, segments: Integers, last: Integers) -> NDArray[np.float32]:
        feeds = dict(zip(INPUTS, (ids, segments, last), strict=True))
        request.infer({name: value for name, value in feeds.items() if name in wanted})
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    return PaddedPeer(run, load_encoder(files.checkpoint, files.spec), batch_tokens)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PeerMissing(f"{error.name} is not installed (make install-bench)") from error
