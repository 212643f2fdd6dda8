"""Where a figure or a file came from: machine, commit, date and versions; never a path or a host name."""

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def now_utc() -> str:
    """The time, ISO 8601 in UTC to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def current_commit() -> str | None:
    """The commit of the checkout this code lies in, `-dirty` if tracked files differ; None outside a checkout."""
    here = Path(__file__).parent
    try:
        run = subprocess.run(  # fixed arguments, no shell
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()


def command_line(module: str, arguments: Sequence[str]) -> str:
    """`python -m module ...` as typed, absolute paths cut to their last two parts."""
    shown = [str(Path(*Path(a).parts[-2:])) if a.startswith("/") else a for a in arguments]
    return shlex.join(["python", "-m", module, *shown])


def machine() -> dict[str, str | int | None]:
    """Processor, cores, instruction sets that matter here, operating system and Python."""
    model, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
        known = {key.strip(): value.strip() for key, value in fields.items()}
        model, flags = known.get("model name", model), known.get("flags", "")
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
    return {
        "processor": model,
        "cores": _num_cores(),
        "instructions": " ".join(flag for flag in wanted if flag in flags.split()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _num_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of `packages`, those that are installed."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_result(
    path: Path, command: str, figures: dict[str, Any], packages: Sequence[str] = ("numpy", "onnxruntime")
) -> None:
    """Write a file of `results/`: the figures with the machine, commit, command and date they came from."""
    record = {
        "date": now_utc(),
        "commit": current_commit(),
        "command": command,
        "machine": machine(),
        "versions": versions(packages),
        **figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
