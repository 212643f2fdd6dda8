"""The Ray Serve application: how many replicas, of what, and the rules they live by.

    serve deploy configs/ray/serve.yaml            on a cluster; its `args` are a `ReplicaSet`
    answer-first serve --replicas 2                on this machine, without a cluster (`scale.serving.program`)

Settings of the service are those of docs/tuning.md: fields of `settings`, then ANSWER_FIRST_* variables, then defaults.
"""

import secrets
from typing import Any

from pydantic import BaseModel, Field
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from scale.serving.policy import QueuedTokens
from scale.serving.replica import Replica
from scale.serving.router import DEFAULT_BOUND, PrefixRouter
from service.settings import Settings

DEPLOYMENT = "scorer"
# The service has a queue of its own, bounded in tokens, that refuses with a reason: Serve's bound lies beyond it.
MAX_ONGOING_REQUESTS = 1024
KEY_BYTES = 32
# Serve kills what has not ended by then; the service's own `drain_seconds` comes first.
END_S = 10
# The service writes its own line for a request, where `access_log` is set.
QUIET = {"enable_access_log": False}


class ReplicaSet(BaseModel, frozen=True, extra="forbid"):
    """What to run; the `args` of a Serve config file."""

    min_replicas: int = Field(default=2, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    """Unset: always `min_replicas`."""
    threads: int = Field(default=1, ge=1)
    """Threads of one model run, and the CPUs Ray sets aside for a replica."""
    gpus: float = Field(default=0, ge=0)
    """GPUs Ray sets aside for a replica."""
    target_waiting_tokens: int = Field(default=4096, ge=1)
    """Tokens that may wait at each replica before there are more: tokens a second times the seconds one may wait."""
    upscale_delay_s: float = Field(default=5.0, ge=0)
    downscale_delay_s: float = Field(default=120.0, ge=0)
    look_back_s: float = Field(default=15.0, gt=10)
    """Over how long the load is averaged; Serve wants more than 10 s."""
    affinity: bool = True
    """Route by query; false: Serve's own rule, the less busy of two."""
    affinity_bound: int = Field(default=DEFAULT_BOUND, ge=0)
    """Requests that the replica of a query may have over the least busy one before it goes to the next."""
    health_check_period_s: float = Field(default=5.0, gt=0)
    settings: dict[str, Any] = {}
    """Settings of the service, by name; secrets belong into the environment."""


def build(wanted: ReplicaSet) -> Application:
    """The application of a config file.

    Raises:
        pydantic.ValidationError: a setting is unknown or does not parse.
    """
    return assemble(wanted, Settings(**wanted.settings))


def assemble(wanted: ReplicaSet, settings: Settings) -> Application:
    """The application, with settings that have been read."""
    # A key's allowance is split between as many as always run: more must not refuse what is allowed.
    settings = settings.model_copy(update={"workers": wanted.min_replicas, "num_threads": wanted.threads})
    key = settings.handle_key.get_secret_value().encode() or secrets.token_bytes(KEY_BYTES)
    return serve.deployment(Replica).options(**_options(wanted, settings)).bind(settings, key)


def _options(wanted: ReplicaSet, settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "name": DEPLOYMENT,
        "ray_actor_options": {"num_cpus": wanted.threads, "num_gpus": wanted.gpus},
        "max_ongoing_requests": MAX_ONGOING_REQUESTS,
        "logging_config": QUIET,
        "health_check_period_s": wanted.health_check_period_s,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": settings.drain_seconds + END_S,
    }
    if wanted.affinity:
        options["request_router_config"] = RequestRouterConfig(
            request_router_class=PrefixRouter, request_router_kwargs={"bound": wanted.affinity_bound}
        )
    if wanted.max_replicas is None or wanted.max_replicas == wanted.min_replicas:
        return options | {"num_replicas": wanted.min_replicas}
    policy = AutoscalingPolicy(
        policy_function=QueuedTokens, policy_kwargs={"target_tokens": wanted.target_waiting_tokens}
    )
    options["autoscaling_config"] = AutoscalingConfig(
        min_replicas=wanted.min_replicas,
        max_replicas=wanted.max_replicas,
        upscale_delay_s=wanted.upscale_delay_s,
        downscale_delay_s=wanted.downscale_delay_s,
        look_back_period_s=wanted.look_back_s,
        policy=policy,
    )
    return options
