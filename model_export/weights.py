"""The weights of an artifact's graphs, in one file beside them: `weights.bin`.

    | tensor | 0... | tensor | 0... |        each beginning at a multiple of ALIGNMENT, none of them twice

Two graphs of one model read mostly the same weights. ONNX lets a graph keep a tensor in another file, by offset and
length, so both point to the same bytes: once on disk, and once in memory as far as ONNX Runtime reads them as they lie,
for it maps the file (what it packs for its products it packs for each session). Which tensors are the same is told by
their bytes, not by their names. Small ones stay in their graph.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

from relevance.artifact import WEIGHTS_FILE

LEAST_BYTES = 4096
"""Of a tensor that leaves its graph."""
ALIGNMENT = 4096
"""A page: what is mapped begins at one."""

Place = tuple[int, int]
"""Offset and length in the file."""


def save_graphs(models: Mapping[str, ir.Model], folder: Path) -> None:
    """Write `models`, which are changed, to `folder` under their names, with one file of weights for all of them.

    There is none if no tensor is large enough.
    """
    path, places = folder / WEIGHTS_FILE, dict[bytes, Place]()
    with path.open("wb") as stream:
        for model in models.values():
            for value in model.graph.initializers.values():
                tensor = value.const_value
                # One that lies in another folder's file must come along, whatever its size.
                if tensor is not None and (tensor.nbytes >= LEAST_BYTES or isinstance(tensor, ir.ExternalTensor)):
                    value.const_value = _move(tensor, stream, places, folder)
    if not places:
        path.unlink()
    for name, model in models.items():
        ir.save(model, folder / name)


def _move(tensor: ir.TensorProtocol, stream: BinaryIO, places: dict[bytes, Place], folder: Path) -> ir.ExternalTensor:
    """The tensor as it lies in `stream`, appended unless its bytes are there."""
    found = tensor.tobytes()
    key = hashlib.sha256(found).digest()
    if key not in places:
        stream.write(bytes(-stream.tell() % ALIGNMENT))
        places[key] = stream.tell(), len(found)
        stream.write(found)
    offset, length = places[key]
    return ir.ExternalTensor(
        WEIGHTS_FILE, offset, length, tensor.dtype, shape=tensor.shape, name=tensor.name or "", base_dir=folder
    )
