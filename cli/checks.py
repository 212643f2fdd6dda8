"""What `doctor` looks at: each check is a function from where it looks to one finding, and never raises."""

import importlib.util
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relevance.artifact import read_manifest
from relevance.errors import RelevanceError
from relevance.provenance import machine

MIN_PYTHON = (3, 11)
# The engine needs about so many times the weights on disk: the mapped file, and what ONNX Runtime packs anew.
MEMORY_FACTOR = 3.0
FAST_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8")
EXTRAS = {
    "redis": ("redis", "a score cache that replicas share"),
    "otel": ("opentelemetry", "traces"),
    "export": ("torch", "exports and training"),
    "parquet": ("pyarrow", "`score --file` on Parquet"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service is to run."""

    artifact: Path
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    what: str
    state: Literal["good", "note", "bad"]
    """`note`: it works, and could be better."""
    fact: str
    fix: str = ""


def check_python(_: Place) -> Finding:
    """The interpreter."""
    fact = f"{platform.python_version()}, {sys.prefix if sys.prefix != sys.base_prefix else 'no virtual environment'}"
    if sys.version_info < MIN_PYTHON:
        return Finding("python", "bad", fact, "install Python 3.11 or later")
    return Finding("python", "good", fact)


def check_processor(_: Place) -> Finding:
    """Cores, and the instructions that int8 is fast with."""
    about = machine()
    cores, instructions = about["cores"] or 1, str(about["instructions"])
    fact = f"{about['processor'] or 'unknown processor'}, {cores} core{'s' if cores != 1 else ''} for this process"
    if not any(name in instructions.split() for name in FAST_INT8):
        return Finding(
            "processor", "note", f"{fact}, no int8 instructions", "int8 runs, but slower: fp32 may be as fast"
        )
    return Finding("processor", "good", f"{fact}, {instructions}")


def check_memory(place: Place) -> Finding:
    """Room for the model in each worker."""
    room = _available_bytes()
    try:
        weights = sum(entry.num_bytes for entry in read_manifest(place.artifact).files.values())
    except RelevanceError:
        weights = 0
    needed = MEMORY_FACTOR * weights + 300e6
    fact = f"{room / 1e9:.1f} GB free, a worker needs about {needed / 1e9:.1f}"
    if room < needed:
        return Finding("memory", "bad", fact, "free memory, or serve a smaller artifact")
    workers = max(1, int(room // needed))
    if workers < len(os.sched_getaffinity(0)):
        return Finding("memory", "note", fact, f"`--workers {workers}`: more than that would not fit")
    return Finding("memory", "good", fact)


def _available_bytes() -> float:
    """What the kernel says, or what a container's limit leaves, whichever is less."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in _lines(Path("/proc/meminfo")))
        if rest.strip()
    }
    rooms = [float(known.get("MemAvailable", pages))]
    limit, used = (_lines(Path("/sys/fs/cgroup") / f"memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdecimal():
        rooms.append(float(limit[0]) - float(used[0]))
    return min(rooms)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def check_runtime(_: Place) -> Finding:
    """ONNX Runtime and the devices it can use."""
    try:
        import onnxruntime  # noqa: PLC0415 - whether it can be imported is what is checked
    except Exception as error:  # a broken library raises whatever it likes
        return Finding("runtime", "bad", f"ONNX Runtime: {error}", "in the checkout: pip install -e '.[cpu]'")
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    fact = f"ONNX Runtime {onnxruntime.__version__}: {', '.join(providers)}"
    if Path("/proc/driver/nvidia").exists() and "CUDA" not in providers:
        return Finding("runtime", "note", fact, "there is a GPU: in an environment of its own: pip install -e '.[gpu]'")
    return Finding("runtime", "good", fact)


def check_artifact(place: Place) -> Finding:
    """The artifact: whole, and computing here what was published."""
    try:
        from engine.local import LocalScorer, self_test  # noqa: PLC0415 - needs the runtime
        from engine.ort import OrtEngine  # noqa: PLC0415
        from relevance.artifact import load_artifact  # noqa: PLC0415
        from relevance.pair import Pair  # noqa: PLC0415

        artifact = load_artifact(place.artifact)
        engine = OrtEngine(artifact, num_threads=1)
        try:
            difference = self_test(artifact, engine)
            began = time.perf_counter()
            LocalScorer(artifact, engine).distributions([Pair("usb c cable", "USB-C to USB-C cable, 1 m")])
            took = time.perf_counter() - began
        finally:
            engine.close()
    except (RelevanceError, ImportError) as error:
        return Finding(
            "artifact", "bad", str(error), "name a folder that `answer-first export` made, or fetch it again"
        )
    passed = f"self-test passed (largest difference {difference:.0e})"
    fact = f"{artifact.model_id}, {passed}, a short pair takes {1e3 * took:.1f} ms"
    return Finding("artifact", "good", fact)


def check_port(place: Place) -> Finding:
    """Whether the port can be listened on."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        with socket.socket(family) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((place.host, place.port))
    except OSError as error:
        fix = f"stop what listens there, or `--port {place.port + 1}`"
        return Finding("port", "bad", f"{place.host}:{place.port}: {error.strerror or error}", fix)
    return Finding("port", "good", f"{place.host}:{place.port} is free")


def check_disk(_: Place) -> Finding:
    """Room for logs and temporary files."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < 200e6:
        return Finding("disk", "note", f"{free / 1e6:.0f} MB free", "logs and exports need more")
    return Finding("disk", "good", f"{free / 1e9:.0f} GB free")


def check_extras(_: Place) -> Finding:
    """What is optional."""
    missing = [f"{extra} ({what})" for extra, (name, what) in EXTRAS.items() if importlib.util.find_spec(name) is None]
    if missing:
        fix = "only if you want them: in the checkout, pip install -e '.[NAME]'"
        return Finding("extras", "note", f"not installed: {', '.join(missing)}", fix)
    return Finding("extras", "good", f"all of {', '.join(EXTRAS)}")


CHECKS: tuple[Callable[[Place], Finding], ...] = (
    check_python,
    check_processor,
    check_memory,
    check_runtime,
    check_artifact,
    check_port,
    check_disk,
    check_extras,
)
