"""Every setting of the service, read once at the start, frozen, and handed down as plain values.

    python -m service --artifact artifacts/default --port 8080
    ANSWER_FIRST_PORT=8080 python -m service

A flag beats the environment, the environment beats the default. Whatever is unknown or does not parse stops the
start. This module alone reads the environment; docs/tuning.md says when to turn which knob.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from engine.devices import DEFAULT_CACHE, Device
from engine.packing import DEFAULT_PACK_TOKENS

ENV_PREFIX = "ANSWER_FIRST_"


class InvalidSettingsError(ValueError):
    """A setting is unknown or does not parse; the message names each one at fault."""


class Settings(BaseSettings):
    """Flags and environment variables of the service; variables are the upper-case name behind ANSWER_FIRST_."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    artifact: Path = Path("artifacts/default")
    """Folder of the artifact to serve."""
    host: str = "127.0.0.1"
    """Address to listen on. The default is reachable from this machine only; elsewhere configure API keys first."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 lets the system choose one, which is logged."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that serve the port, each with the model in its own memory; unset: what docs/operating.md measured to
    serve most, one per core (at most eight) for a small model, one for a larger one."""
    num_threads: int | None = Field(default=None, ge=1)
    """Threads of one model run; unset: one for a small model, one per physical core for a larger one."""
    device: Device = "auto"
    """What the engine runs on: auto, cpu, cuda or tensorrt; auto is what the artifact was made for. A GPU needs the
    extra `gpu` in place of `cpu`."""
    tensorrt_cache: Path = DEFAULT_CACHE
    """Folder for the engines that TensorRT builds on first use, one for each artifact, GPU and version."""
    max_pack_tokens: int = Field(default=DEFAULT_PACK_TOKENS, ge=16)
    """Tokens the engine takes in one run. Larger packs serve more pairs a second only while the caches of the
    processor hold them; smaller ones let a waiting request in sooner."""
    max_waiting_tokens: int = Field(default=262_144, ge=1)
    """Document tokens that may wait for the engine; a request beyond them is refused with 429. Set it to the tokens
    a second the machine does times the seconds a caller is willing to wait."""
    prefix_cache_mib: int = Field(default=256, ge=0)
    """Memory for the KV of past queries; 0 keeps none."""
    score_cache_mib: int = Field(default=64, ge=0)
    """Memory for scores already computed, about 3,500 pairs a MiB; 0 keeps none."""
    max_explanations: int = Field(default=64, ge=1)
    """Explanations that may be under way; one more is refused with 429."""
    explain_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the engine's time that explanations may take while scores wait; while none do they may take all."""
    explain_kv_mib: int = Field(default=64, ge=0)
    """Memory for the KV of scored pairs whose request asked for handles, so that an explanation goes on from there;
    0 keeps none, and each is computed once more."""
    redis_url: str | None = None
    """Redis to share scores with other replicas, as redis://HOST:PORT/DB; needs the extra `redis`. It may fail."""
    redis_timeout_ms: int = Field(default=10, ge=1)
    """How long a request waits for Redis before it computes what Redis may have."""
    redis_ttl_seconds: int = Field(default=86_400, ge=1)
    """How long a score stays in Redis."""
    default_timeout_ms: int | None = Field(default=None, ge=1)
    """Timeout of a request that names none; unset: such a request has no deadline."""
    max_timeout_ms: int = Field(default=60_000, ge=1)
    """Largest timeout a request may name; a larger one is refused with 422."""
    body_timeout_seconds: float = Field(default=10.0, gt=0)
    """How long a request's body may take to arrive; a slower one is refused with 408."""
    max_documents: int = Field(default=1000, ge=1)
    """Documents, or pairs, that one request may bring."""
    max_body_bytes: int = Field(default=10_000_000, ge=1024)
    """Largest request body; a larger one is refused with 413."""
    drain_seconds: int = Field(default=10, ge=0)
    """How long requests under way may take after SIGTERM before they are cut off."""
    stop_delay_seconds: float = Field(default=0.0, ge=0)
    """How long after SIGTERM it goes on serving, with /readyz at 503, before it stops listening: the time a load
    balancer needs to notice."""
    max_loop_stall_seconds: float = Field(default=30.0, ge=0)
    """An event loop blocked for longer ends the process, for the supervisor to start it anew; 0: never."""
    api_keys_file: Path | None = None
    """File of API keys, `NAME KEY [admin] [requests=N] [documents=N]` a line; with any key, nothing but the probes and
    the playground's files is answered without one."""
    api_keys: SecretStr = SecretStr("")
    """API keys as in the file, separated by `;`. Set the variable: a flag is visible to every user of the machine."""
    handle_key: SecretStr = SecretStr("")
    """Secret that signs handles of /explain, at least 16 characters, the same at all replicas that shall take one
    another's. Unset: drawn at the start and shared by the workers, so a handle does not outlive the service."""
    explain_texts_mib: int = Field(default=64, ge=0)
    """Memory for the texts behind handles; one whose texts have been let go of asks for them again."""
    explain_cache_mib: int = Field(default=16, ge=0)
    """Memory for explanations already told; 0 keeps none."""
    public_metrics: bool = False
    """Answer /metrics without a key even where keys are configured."""
    cors_origins: list[str] = []
    """Origins whose pages may call the service from a browser, as a JSON list; none by default."""
    playground: bool = True
    """Serve a page at / to try the service in a browser; `--no-playground` leaves it out."""
    shadow_artifact: Path | None = None
    """Folder of a candidate that scores a share of the traffic beside the artifact; only its drift is seen."""
    shadow_share: float = Field(default=0.05, gt=0, le=1)
    """Share of the requests that the candidate scores too, while it keeps up."""
    otlp_endpoint: str | None = None
    """Where traces go: an OTLP collector's address, as in http://localhost:4318/v1/traces. Needs the extra `otel`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message to log. No level logs any text of a query or document."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """One JSON object a line, or text; auto: text on a terminal, else JSON."""
    access_log: bool = False
    """Log a line per request (path, status, times, request id, name of its key)."""


def load_settings(arguments: Sequence[str]) -> Settings:
    """Settings from command-line arguments, then the environment, then the defaults.

    Raises:
        InvalidSettingsError: a variable is unknown, or a value does not parse. (An unknown flag ends the process
            with status 2 and a usage line, `--help` with 0.)
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)  # noqa: TID251
    if unknown:
        raise InvalidSettingsError(
            f"unknown environment variables: {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    try:
        return Settings(_cli_parse_args=list(arguments))
    except (ValidationError, SettingsError) as error:
        raise InvalidSettingsError(_describe(error)) from error


def _describe(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}"
        for one in error.errors(include_url=False)
    )
