"""The int8 products of an artifact's graph and nothing else: what a prefill would take if all the rest were free.

    for each layer's weight W:   MatMulIntegerToFloat(rows, W), of which one row is kept

Every weight of the model is walked in its order, so it comes from memory as it does in the model. Products of the last
layer that only the tokens read go through have as many rows as are read. The vocabulary head, which scoring does not
run, is left out.

Of a Qwen3 artifact at int8: which weights are the last layer's is known by its names.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from relevance.artifact import Artifact
from relevance.errors import ArtifactError

LATE = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
"""Of the last layer: computed for what is read alone."""
_PRODUCT = "MatMulIntegerToFloat"


class Products:
    """The products of one artifact, ready to run. Not thread-safe."""

    def __init__(self, artifact: Artifact, *, num_threads: int, allow_spinning: bool = False) -> None:
        """Build and load the graph, in as many threads as the engine has.

        Raises:
            ArtifactError: it is not Qwen3 at int8.
        """
        graph = artifact.manifest.graph
        if graph.architecture != "qwen3" or artifact.manifest.precision != "int8":
            raise ArtifactError(f"{artifact.folder}: only the products of Qwen3 at int8 are known here")
        model = build_products(ir.load(artifact.graph_path), graph.num_layers)
        self.num_weights, self.num_late_weights = _count(model)
        self.shapes = [w.const_value.shape.numpy() for n in model.graph if (w := _weight(n)) and w.const_value]
        """(C, J) of each product, in order."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = num_threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if allow_spinning else "0")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "products.onnx"
            ir.save(model, path, external_data="products.data")
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._sizes = {node.name: node.shape[1] for node in self._session.get_inputs()}
        self._random = np.random.default_rng(0)

    def feed(self, num_tokens: int, num_read: int) -> dict[str, np.ndarray]:
        """Random inputs of a pack of `num_tokens`, of which `num_read` are read."""
        counts = {name: num_read if name.startswith("read") else num_tokens for name in self._sizes}
        return {
            name: self._random.integers(0, 256, (counts[name], size), dtype=np.uint8)
            for name, size in self._sizes.items()
        }

    def run(self, feed: dict[str, np.ndarray]) -> None:
        """All products once."""
        self._session.run(None, feed)

    def num_operations(self, num_tokens: int, num_read: int) -> int:
        """Multiplications and additions of a pack."""
        late = self.num_late_weights
        return 2 * ((self.num_weights - late) * num_tokens + late * num_read)


def build_products(model: ir.Model, num_layers: int) -> ir.Model:
    """The graph of the products of `model`: inputs `rows_C` [S, C] and `read_C` [N, C], one idle output."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23, "com.microsoft": 1}, name="products")
    tape = ir.tape.Tape(graph)
    first = _keep(graph, ir.val("first", const_value=ir.tensor(np.zeros(1, np.int64), name="first")))
    kept = []
    for node in model.graph:
        weight = _weight(node)
        if weight is None:
            continue
        for constant in node.inputs[1:]:
            assert constant is not None
            _keep(graph, constant)
        inputs = [
            _rows(graph, weight, num_layers),
            *(graph.initializers[str(one.name)] for one in node.inputs[1:] if one),
        ]
        product = tape.op(_PRODUCT, inputs, domain="com.microsoft")
        kept.append(tape.op("Gather", [product, first], {"axis": 0}))
    output = tape.op("Concat", kept, {"axis": 1})
    output.name, output.type = "kept", ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.append(output)
    return ir.Model(graph, ir_version=model.ir_version)


def _weight(node: ir.Node) -> ir.Value | None:
    """The constant that a product is with; None of other nodes, and of the head's product with the embedding turned."""
    weight = node.inputs[1] if node.op_type == _PRODUCT else None
    return None if weight is None or weight.const_value is None else weight


def _keep(graph: ir.Graph, constant: ir.Value) -> ir.Value:
    """A constant of another graph, or a new one, as one of `graph`'s own."""
    name, tensor = str(constant.name), constant.const_value
    if name not in graph.initializers:
        assert tensor is not None
        value = ir.Value(name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        graph.register_initializer(value)
    return graph.initializers[name]


def _rows(graph: ir.Graph, weight: ir.Value, num_layers: int) -> ir.Value:
    assert weight.const_value is not None
    size = weight.const_value.shape[0]
    is_late = any(f".{num_layers - 1}.{part}." in str(weight.name) for part in LATE)
    name = f"{'read' if is_late else 'rows'}_{size}"
    for value in graph.inputs:
        if value.name == name:
            return value
    graph.inputs.append(ir.val(name, ir.DataType.UINT8, ["N" if is_late else "S", size]))
    return graph.inputs[-1]


def _count(model: ir.Model) -> tuple[int, int]:
    """Weights of all products, and of those of what is read alone."""
    every, late = 0, 0
    for node in model.graph:
        weight, rows = _weight(node), node.inputs[0]
        if weight is not None and weight.const_value is not None and rows is not None:
            every += weight.const_value.size
            late += weight.const_value.size * str(rows.name).startswith("read")
    return every, late
