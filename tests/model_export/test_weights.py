"""One file of weights for several graphs: nothing in it twice, nothing of it lost."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from engine.local import self_test
from engine.ort import OrtEngine
from model_export.weights import ALIGNMENT, LEAST_BYTES, save_graphs
from relevance.artifact import ANSWER_GRAPH_FILE, GRAPH_FILE, WEIGHTS_FILE, Artifact, load_artifact
from relevance.errors import ArtifactError

LARGE = np.arange(LEAST_BYTES // 4, dtype=np.float32)


def graph_of(arrays: dict[str, np.ndarray]) -> ir.Model:
    tensors = {name: ir.tensor(array, name=name) for name, array in arrays.items()}
    values = [
        ir.Value(name=name, shape=ir.Shape(one.shape), type=ir.TensorType(one.dtype), const_value=one)
        for name, one in tensors.items()
    ]
    outputs = [ir.Node("", "Identity", [value]) for value in values]
    graph = ir.Graph(
        [], [node.outputs[0] for node in outputs], nodes=outputs, initializers=values, opset_imports={"": 20}
    )
    return ir.Model(graph, ir_version=11)


def weights_of(folder: Path, name: str) -> dict[str, np.ndarray]:
    graph = ir.load(folder / name).graph
    return {str(name): value.const_value.numpy() for name, value in graph.initializers.items() if value.const_value}


def external_of(path: Path) -> dict[str, tuple[str, int, int]]:
    """Where tensors lie that are not in the graph: file, offset, length."""
    found = {}
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            found[tensor.name] = (entries["location"], int(entries["offset"]), int(entries["length"]))
    return found


def test_what_two_graphs_share_is_stored_once_whatever_its_name(tmp_path: Path) -> None:
    one, two = {"a": LARGE, "own": LARGE + 1}, {"b": LARGE.copy(), "c": LARGE, "small": LARGE[:2]}
    save_graphs({"one.onnx": graph_of(one), "two.onnx": graph_of(two)}, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size == ALIGNMENT + LARGE.nbytes
    first, second = external_of(tmp_path / "one.onnx"), external_of(tmp_path / "two.onnx")
    assert first["a"] == second["b"] == second["c"] == (WEIGHTS_FILE, 0, LARGE.nbytes)
    assert first["own"] == (WEIGHTS_FILE, ALIGNMENT, LARGE.nbytes)
    assert "small" not in second
    for name, arrays in (("one.onnx", one), ("two.onnx", two)):
        found = weights_of(tmp_path, name)
        assert set(found) == set(arrays)
        assert all(np.array_equal(found[key], array) for key, array in arrays.items())


def test_bytes_that_are_the_same_keep_their_own_type_and_shape(tmp_path: Path) -> None:
    arrays = {"floats": np.zeros(2048, dtype=np.float32), "bytes": np.zeros((2, 4096), dtype=np.int8)}
    save_graphs({"one.onnx": graph_of(arrays)}, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size == 8192
    found = weights_of(tmp_path, "one.onnx")
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        name: (one.dtype, one.shape) for name, one in arrays.items()
    }


def test_weights_that_lie_beside_another_graph_come_along(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    save_graphs({"one.onnx": graph_of({"a": LARGE, "small": LARGE[:2]})}, there)
    save_graphs({"one.onnx": ir.load(there / "one.onnx")}, here)
    (there / WEIGHTS_FILE).unlink()
    assert np.array_equal(weights_of(here, "one.onnx")["a"], LARGE)


def test_there_is_no_file_without_large_weights(tmp_path: Path) -> None:
    save_graphs({"one.onnx": graph_of({"small": LARGE[:2]})}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one.onnx"]


def test_both_graphs_of_an_artifact_read_the_same_weights(late_int8: Path) -> None:
    scoring, answers = (external_of(late_int8 / name) for name in (GRAPH_FILE, ANSWER_GRAPH_FILE))
    places = set(scoring.values())
    shared = [name for name, place in answers.items() if place in places]
    assert len(shared) > len(answers) / 2
    assert {place[0] for place in (*places, *answers.values())} == {WEIGHTS_FILE}
    # Every byte of the file belongs to a tensor, but for less than a page before each.
    lengths = {place[1]: place[2] for place in (*places, *answers.values())}
    size = (late_int8 / WEIGHTS_FILE).stat().st_size
    assert size - ALIGNMENT * len(lengths) < sum(lengths.values()) <= size


def test_an_artifact_with_its_weights_within_its_graphs_still_runs(late_int8: Path, tmp_path: Path) -> None:
    artifact = load_artifact(late_int8)
    for name in (GRAPH_FILE, ANSWER_GRAPH_FILE):
        onnx.save(onnx.load(artifact.folder / name), tmp_path / name)
    assert not external_of(tmp_path / GRAPH_FILE)
    old = Artifact(tmp_path, artifact.manifest, "", artifact.tokenizer)
    engine = OrtEngine(old)
    assert self_test(old, engine) == self_test(artifact, OrtEngine(artifact))
    engine.close()


def test_weights_that_changed_are_refused(late_int8: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(late_int8, tmp_path / "changed")
    whole = bytearray((folder / WEIGHTS_FILE).read_bytes())
    whole[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(whole)
    with pytest.raises(ArtifactError, match=r"weights\.bin: damaged or altered"):
        load_artifact(folder)
