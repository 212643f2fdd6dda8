"""An artifact and a device's name to an engine: the one place that knows which engine runs where."""

from pathlib import Path

from engine.base import Engine
from engine.bound import BoundEngine
from engine.devices import DEFAULT_CACHE, TENSORRT, Device, choose_device, providers_of
from engine.ort import OrtEngine
from engine.session import GraphSession
from relevance.artifact import Artifact


def open_engine(
    artifact: Artifact, device: Device = "auto", *, num_threads: int | None = None, cache: Path = DEFAULT_CACHE
) -> Engine:
    """The engine of an artifact on a device; KV of prefixes stays on a GPU.

    Raises:
        ArtifactError: it does not run there, or what it takes is not here.
    """
    chosen = choose_device(device, artifact.manifest.target)
    providers = providers_of(chosen, artifact, cache)
    if chosen == "cpu":
        return OrtEngine(artifact, num_threads=num_threads, providers=providers)
    for one in providers:
        if not isinstance(one, str) and one[0] == TENSORRT:
            Path(one[1]["trt_engine_cache_path"]).mkdir(parents=True, exist_ok=True)
    session = GraphSession(artifact, num_threads=num_threads, providers=providers)
    return BoundEngine(artifact, session, "cuda")
