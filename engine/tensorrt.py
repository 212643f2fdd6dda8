"""What ONNX Runtime's TensorRT provider is told: the manifest's profiles, float16, and where built engines are kept.

Building an engine takes minutes, so it is done once for each

    <cache>/<GPU>-<driver>-<TensorRT>-<artifact's hash>/

An engine is good for one GPU model and one version of TensorRT only, and TensorRT does not always notice; the key does.
Profiles are given for every input, so a row inside a bucket never rebuilds anything. `trtexec_line` is the same build
by TensorRT's own tool. Nothing here imports TensorRT; without it ONNX Runtime names the library it misses.
"""

import ctypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relevance.artifact import GraphInfo, ShapeProfile

NVIDIA_FOLDER = Path("/proc/driver/nvidia")
LIBRARIES = ("libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8")
UNKNOWN = "unknown"

LEAST, USUAL, MOST = range(3)


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """What a built engine depends on beside the artifact."""

    name: str
    driver: str
    tensorrt: str


def input_shapes(graph: GraphInfo, profile: ShapeProfile, which: int) -> dict[str, tuple[int, ...]]:
    """The shape of each graph input, for the `which` (LEAST, USUAL or MOST) sizes of `profile`."""
    tokens, past, read = profile.num_tokens[which], profile.num_past[which], profile.num_read[which]
    bias = (1, 1, tokens, past + tokens)
    shapes: dict[str, tuple[int, ...]] = {
        "input_ids": (1, tokens),
        "position_ids": (1, tokens),
        "attention_bias": bias,
        "output_positions": (read,),
    }
    if graph.num_encoder_layers:
        shapes |= {"lower_bias": bias, "compared_tokens": (read, tokens)}
    for layer in range(graph.num_layers):
        for kind in ("key", "value"):
            shapes[f"past_key_values.{layer}.{kind}"] = (1, graph.num_kv_heads, past, graph.head_dim)
    return shapes | {"vocab_rows": (read,)}


def _spell(shapes: dict[str, tuple[int, ...]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def profile_options(graph: GraphInfo, profiles: Sequence[ShapeProfile]) -> dict[str, str]:
    """Provider options that give every input's shapes; an input named several times has so many profiles, in order."""
    return {
        f"trt_profile_{word}_shapes": ",".join(_spell(input_shapes(graph, profile, which)) for profile in profiles)
        for word, which in (("min", LEAST), ("opt", USUAL), ("max", MOST))
    }


def provider_options(
    graph: GraphInfo, profiles: Sequence[ShapeProfile], *, is_float16: bool, cache: Path
) -> dict[str, str]:
    """All options of the TensorRT provider; `cache` is the folder of this very artifact on this very GPU."""
    return {
        "device_id": "0",
        "trt_fp16_enable": str(is_float16),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(cache),
        **profile_options(graph, profiles),
    }


def trtexec_line(graph_file: str, graph: GraphInfo, profile: ShapeProfile) -> str:
    """A shell line by which TensorRT's own tool builds and times the graph for one bucket."""
    shapes = (
        f"--{word}Shapes={_spell(input_shapes(graph, profile, which))}"
        for word, which in (("min", LEAST), ("opt", USUAL), ("max", MOST))
    )
    return " ".join(["trtexec", f"--onnx={graph_file}", "--stronglyTyped", *shapes])


def cache_folder(base: Path, gpu: GpuIdentity, artifact_hash: str) -> Path:
    """Where engines of one artifact on one kind of GPU are kept."""
    plain = (re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in (gpu.name, f"driver{gpu.driver}", f"trt{gpu.tensorrt}"))
    return base / "-".join((*plain, artifact_hash[:16]))


def read_gpu(folder: Path = NVIDIA_FOLDER, load_library: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> GpuIdentity:
    """The first GPU as the driver tells it, and TensorRT's own version; "unknown" for what is not there."""
    return GpuIdentity(_gpu_name(folder), _driver_version(folder), _tensorrt_version(load_library))


def _gpu_name(folder: Path) -> str:
    for path in sorted(folder.glob("gpus/*/information")):
        found = re.search(r"^Model:\s*(.+?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return UNKNOWN


def _driver_version(folder: Path) -> str:
    path = folder / "version"
    found = re.search(r"Module.*?\s(\d+(?:\.\d+)+)", path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else UNKNOWN


def _tensorrt_version(load_library: Callable[[str], ctypes.CDLL]) -> str:
    """As the library says itself: an integer such as 101303 for 10.13.3."""
    for name in LIBRARIES:
        try:
            return str(load_library(name).getInferLibVersion())
        except OSError:
            continue
    return UNKNOWN
