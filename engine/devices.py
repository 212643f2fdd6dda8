"""What an artifact runs on: from a device's name to execution providers, or to an error that says why not.

| artifact's target | `cpu` | `cuda` | `tensorrt` | `auto` |
|---|---|---|---|---|
| cpu (int8, int4, fp32) | yes | no: operators of the processor | no | cpu |
| cuda (fp16, bf16, fp32) | for checks; not bf16 | yes | no: operators TensorRT may not know | cuda |
| tensorrt (the same) | for checks; not bf16 | yes | yes | tensorrt |

Nothing falls back in silence: an artifact made for a GPU does not run on a processor unless that is asked for, and what
is asked for and not installed is an error (`engine.session`).
"""

from pathlib import Path
from typing import Literal

from engine.tensorrt import cache_folder, provider_options, read_gpu
from relevance.artifact import Artifact, Target
from relevance.errors import ArtifactError

Provider = str | tuple[str, dict[str, str]]
"""An execution provider's name, or that and its options."""
CPU_ONLY: tuple[Provider, ...] = ("CPUExecutionProvider",)
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
RUNS_ON: dict[Target, tuple[Target, ...]] = {
    "cpu": ("cpu",),
    "cuda": ("cuda", "cpu"),
    "tensorrt": ("tensorrt", "cuda", "cpu"),
}
"""By an artifact's target."""

# One process, one model: memory grows by what is asked for, not by doubling; float32 stays float32.
CUDA_OPTIONS = {"device_id": "0", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
DEFAULT_CACHE = Path("~/.cache/answer-first/tensorrt")


def choose_device(device: Device, target: Target) -> Target:
    """The device that `device` means for an artifact made for `target`.

    Raises:
        ArtifactError: one does not run on the other.
    """
    chosen = target if device == "auto" else device
    if chosen not in RUNS_ON[target]:
        raise ArtifactError(
            f"an artifact made for {target} does not run on {chosen}: export one with --target {chosen}, "
            f"or serve on {' or '.join(RUNS_ON[target])}"
        )
    return chosen


def providers_of(device: Target, artifact: Artifact, cache: Path = DEFAULT_CACHE) -> tuple[Provider, ...]:
    """Execution providers in order of preference; operators that the first does not have run on the next.

    `cache` is the folder under which built TensorRT engines are kept.

    Raises:
        ArtifactError: bfloat16 on a processor.
    """
    manifest = artifact.manifest
    if device == "cpu":
        if manifest.precision == "bf16":
            raise ArtifactError("ONNX Runtime computes no bfloat16 on a processor: serve it on cuda, or export fp16")
        return CPU_ONLY
    cuda: tuple[Provider, ...] = ((CUDA, CUDA_OPTIONS), *CPU_ONLY)
    if device == "cuda":
        return cuda
    folder = cache_folder(cache.expanduser(), read_gpu(), artifact.hash)
    is_float16 = manifest.precision == "fp16"
    options = provider_options(manifest.graph, manifest.profiles, is_float16=is_float16, cache=folder)
    return ((TENSORRT, options), *cuda)
