"""The checkpoint as the plain ONNX graph anybody would export: padded batches, float32, then `quantize_dynamic`.

    fp32   torch.onnx.export of `Grading`, batch and length free
    int8   onnxruntime.quantization.quantize_dynamic: weights per channel, activations per tensor, MatMul only

Files lie in the work folder and are made once for a checkpoint, by a process that ends before anything is measured.
"""

from pathlib import Path

from benchmarks.peers.peer import Files

INPUTS = ("ids", "segments", "last")
PLAIN = "plain_fp32.onnx"
DYNAMIC = "plain_int8.onnx"
INLINE_PARAMETERS = 100_000_000
"""A graph with more keeps its weights in a file beside it: protobuf ends at 2 GB."""


def graph_path(files: Files, precision: str) -> Path:
    """Where the graph lies; a precision that is not int8 is computed from the float32 one."""
    return files.work / (DYNAMIC if precision == "int8" else PLAIN)


def make_graphs(files: Files, precision: str) -> None:
    """Make the graph, and what it is made of, where they are not there."""
    if not graph_path(files, "fp32").is_file():
        _export(files, graph_path(files, "fp32"))
    if not graph_path(files, precision).is_file():
        _quantize(graph_path(files, "fp32"), graph_path(files, "int8"))


def _quantize(plain: Path, dynamic: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415  no part of running the graph

    quantize_dynamic(
        plain,
        dynamic,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=_data_of(plain).is_file(),
    )


def _data_of(path: Path) -> Path:
    return path.with_name(path.name + ".data")


def _export(files: Files, path: Path) -> None:
    import torch  # noqa: PLC0415  peers that run the graph do without it

    from benchmarks.peers.grading import load_grading  # noqa: PLC0415  as above

    grading = load_grading(files).grading
    ids = torch.arange(2 * 7).reshape(2, 7) % 50
    segments = torch.tensor([[0, 0, 1, 1, 2, -1, -1], [0, 0, 1, 1, 1, 1, 2]])
    batch, length = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("length", min=4, max=8192)
    with torch.inference_mode():
        program = torch.onnx.export(
            grading,
            (ids, segments, torch.tensor([4, 6])),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes={"ids": {0: batch, 1: length}, "segments": {0: batch, 1: length}, "last": {0: batch}},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    is_large = sum(parameter.numel() for parameter in grading.parameters()) > INLINE_PARAMETERS
    program.save(str(path), external_data=is_large)
