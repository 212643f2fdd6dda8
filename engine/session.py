"""One ONNX Runtime session under the graph contract: loaded, checked, and fed with rows.

It holds the weights once and knows names and types; how KV is kept between runs is the engines' matter: in this
process's memory (`engine.ort`) or where the graph runs (`engine.bound`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.devices import CPU_ONLY, CUDA, TENSORRT, Provider
from engine.packing import NUM_NULL_SLOTS, Row
from relevance.artifact import Artifact
from relevance.errors import ArtifactError

_FLOATS: dict[str, type[np.generic]] = {"float32": np.float32, "float16": np.float16}


class GraphSession:
    """A loaded graph. Not thread-safe."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        num_threads: int | None = None,
        allow_spinning: bool = False,
        providers: Sequence[Provider] = CPU_ONLY,
    ) -> None:
        """Load the graph.

        Args:
            artifact: a verified artifact.
            num_threads: threads of one operator; None leaves it to ONNX Runtime (the physical cores).
            allow_spinning: let idle threads of one operator spin for the next. Saves a little on an idle machine, and
                costs a multiple when the event loop, or anything else, wants the cores.
            providers: execution providers in order of preference, as of `engine.devices`; all of them must be there.

        Raises:
            ArtifactError: ONNX Runtime cannot load the graph or lacks a provider, or the graph's inputs and outputs
                break the contract.
        """
        self.num_row_tokens = 0
        self.graph = artifact.manifest.graph
        layers = range(self.graph.num_layers)
        self.past_names = [f"past_key_values.{i}.{kind}" for i in layers for kind in ("key", "value")]
        self.present_names = [f"present.{i}.{kind}" for i in layers for kind in ("key", "value")]
        self.kv_type = _float_type(self.graph.kv_dtype)
        self._bias_type = _float_type(self.graph.bias_dtype)
        onnxruntime.disable_telemetry_events()  # its Linux builds have some
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if allow_spinning else "0")
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        self.onnx = _open(artifact, options, providers)
        # A graph for TensorRT, which knows no defaults of inputs, wants a row of the vocabulary head in every run.
        inputs = {node.name for node in self.onnx.get_inputs()}
        self._defaults = {"vocab_rows": np.zeros(1, dtype=np.int64)} if "vocab_rows" in inputs else {}
        self._check_contract(artifact, inputs - {"vocab_rows"})
        empty = np.zeros((1, self.graph.num_kv_heads, NUM_NULL_SLOTS, self.graph.head_dim), dtype=self.kv_type)
        self.null_past: dict[str, NDArray[np.generic]] = dict.fromkeys(self.past_names, empty)

    def _check_contract(self, artifact: Artifact, inputs: set[str]) -> None:
        outputs = {node.name for node in self.onnx.get_outputs()}
        wanted = {"input_ids", "position_ids", "attention_bias", "output_positions", *self.past_names}
        if self.graph.num_encoder_layers:
            wanted |= {"lower_bias", "compared_tokens"}
        if inputs != wanted:
            raise ArtifactError(f"{artifact.graph_path}: inputs differ from the contract: {sorted(inputs ^ wanted)}")
        missing = {"label_logits", "vocab_logits", *self.present_names} - outputs
        if missing:
            raise ArtifactError(f"{artifact.graph_path}: outputs missing: {sorted(missing)}")

    def feed(self, row: Row) -> dict[str, NDArray[np.generic]]:
        """Every graph input but the past, in the graph's types."""
        feed: dict[str, NDArray[np.generic]] = {
            **self._defaults,
            "input_ids": row.input_ids,
            "position_ids": row.position_ids,
            "attention_bias": row.attention_bias.astype(self._bias_type, copy=False),
            "output_positions": row.last_positions,
        }
        if row.lower_bias is not None and row.compared_tokens is not None:
            feed["lower_bias"] = row.lower_bias.astype(self._bias_type, copy=False)
            feed["compared_tokens"] = row.compared_tokens
        return feed

    def run(self, outputs: list[str], row: Row, past: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """The `outputs` of one row behind `past` (which may name `vocab_rows`, too), in this process's memory."""
        values: list[NDArray[np.generic]] = self.onnx.run(outputs, {**self.feed(row), **past})
        self.num_row_tokens += row.input_ids.size
        return values

    def close(self) -> None:
        """Free the session; no call may follow."""
        del self.onnx


def _open(artifact: Artifact, options: Any, providers: Sequence[Provider]) -> Any:
    names = [one if isinstance(one, str) else one[0] for one in providers]
    lacking = sorted(set(names) - set(onnxruntime.get_available_providers()))
    if lacking:
        raise ArtifactError(
            f"the ONNX Runtime here ({onnxruntime.__version__}) is built without {', '.join(lacking)}: install the "
            "extra `gpu` in place of `cpu`, or serve an artifact made for the processor"
        )
    if {CUDA, TENSORRT} & set(names):
        onnxruntime.preload_dlls()  # of the NVIDIA packages, where they are installed beside it
    try:
        session = onnxruntime.InferenceSession(artifact.graph_path, options, providers=list(providers))
    except Exception as error:  # the library raises its own exceptions and RuntimeError alike
        raise ArtifactError(f"{artifact.graph_path}: ONNX Runtime cannot load it: {error}") from error
    # It falls back to the processor in silence, which is no speed that anybody asked for.
    missing = sorted(set(names) - set(session.get_providers()))
    if missing:
        raise ArtifactError(
            f"{', '.join(missing)} could not start: an NVIDIA driver, CUDA, cuDNN or TensorRT of the version that ONNX "
            f"Runtime {onnxruntime.__version__} wants is missing; what it missed is in its own messages above"
        )
    return session


def _float_type(name: str) -> type[np.generic]:
    if name not in _FLOATS:
        raise ArtifactError(f"graph.kv_dtype and graph.bias_dtype must be one of {sorted(_FLOATS)} here, got {name}")
    return _FLOATS[name]
