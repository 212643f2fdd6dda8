"""One replica: the app of `service.app` inside a Ray Serve actor, its life tied to Serve's.

    start      the app is built, warms up and tests itself; Serve sends nothing before that has passed
    health     an app that cannot start says so at Serve's first check. One whose engine dies later refuses what it has
               and ends the process: Serve sees that at once, and would send it requests for three checks more
    a stall    an event loop that is blocked for too long ends the process, as `python -m service` does
    the end    Serve sends it nothing more, waits for what is under way (`graceful_shutdown_timeout_s`), then the app's
               lifespan ends: caches, engine thread, open work

A replica has a number, most often its rank: handles of /explain carry it, so that they find their way back.
"""

import asyncio
import logging
import os
import sys
from typing import Any

import prometheus_client
from fastapi import FastAPI
from ray import serve

from scale.serving.policy import WAITING_TOKENS
from scale.serving.replicas import Replicas
from service import garbage
from service.app import ProcessHooks, create_app
from service.control import Control
from service.logs import configure_logs, write_to
from service.process import EXIT_ENGINE, EXIT_STALLED
from service.settings import Settings

logger = logging.getLogger("scale.serving")

# What is refused when the engine has died is on its way by then.
LAST_ANSWERS_S = 1.0


class EngineEnded(Exception):
    """The engine of this replica could not be started or has died."""


@serve.ingress()
class Replica:
    """What Serve runs N of."""

    def __init__(self, settings: Settings, handle_key: bytes) -> None:
        """`handle_key` signs handles of /explain, the same in all replicas."""
        context = serve.get_replica_context()
        name = context.replica_tag
        fields = {"replica": name}
        write = write_to(sys.stderr.fileno())
        self._log = configure_logs(settings.log_level, settings.log_format, write, is_terminal=False, fields=fields)
        own = serve.get_deployment_handle(context.deployment, context.app_name)
        self._replicas = Replicas(name, context.rank.rank, handle_key, own)
        self._settings = settings
        self._error: BaseException | None = None
        self._has_served = False
        self._app: FastAPI | None = None

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """The app; Serve runs its lifespan, which returns once the app is ready or has failed."""
        remembered = await self._replicas.join()
        settings = self._settings.model_copy(update={"artifact": remembered or self._settings.artifact})
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        hooks = ProcessHooks(self._tell_ready, self._fail, _exit_stalled, lambda: self._log.num_dropped)
        self._app = create_app(settings, hooks=hooks, siblings=self._replicas)
        return self._app

    @property
    def _control(self) -> Control:
        if self._app is None:
            raise RuntimeError("the app has not been built")
        control: Control = self._app.state.control
        return control

    def _tell_ready(self) -> None:
        self._has_served = True
        garbage.freeze()
        logger.info("replica ready")

    def _fail(self, error: BaseException) -> None:
        self._error = error
        if self._has_served:
            asyncio.get_running_loop().call_later(LAST_ANSWERS_S, os._exit, EXIT_ENGINE)

    async def check_health(self) -> None:
        """Serve's health check, every `health_check_period_s`.

        Raises:
            EngineEnded: it must be replaced.
        """
        if self._error is not None:
            raise EngineEnded(f"{type(self._error).__name__}: {self._error}")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaling policy goes by."""
        return {WAITING_TOKENS: float(self._control.num_waiting_tokens)}

    async def record_replica_metadata(self) -> dict[str, Any]:
        """What the routers know of this replica."""
        return {"number": self._replicas.index}

    async def answer(self, asker: str, what: str, argument: str) -> dict[str, Any]:
        """What another replica asks of this one."""
        return await self._replicas.answer(asker, what, argument)


def _exit_stalled(late_s: float) -> None:
    # What waits for the loop is lost either way: Serve sees the process end and starts another.
    print(f"stopped: the event loop has been blocked for {late_s:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_STALLED)
