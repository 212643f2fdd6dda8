"""`answer-first serve --replicas N`: Ray, Serve and the replicas on this machine, until a signal.

Exit status as of `python -m service`: 0 after SIGTERM or SIGINT, 2 for a setting or an artifact that cannot be used,
3 when the address is taken, 4 when the replicas could not be started. At the first signal Serve is shut down in order:
each replica answers what it has, for `drain_seconds` at most.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions

from relevance.artifact import read_manifest
from relevance.errors import RelevanceError
from scale.serving.application import QUIET, ReplicaSet, assemble
from scale.serving.environment import ENVIRONMENT
from service.process import EXIT_ADDRESS, EXIT_ENGINE, EXIT_UNUSABLE
from service.server import KEEP_ALIVE_S
from service.settings import InvalidSettingsError, Settings, load_settings
from service.supervisor import bind

# Scores and texts travel in messages, not through the store; this is the least Ray takes.
OBJECT_STORE_BYTES = 80 * 2**20
NAME = "answer-first"


@dataclass(frozen=True, slots=True)
class Running:
    """Replicas that serve."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Where they are asked."""
        return f"http://{self.host}:{self.port}"


@contextmanager
def running(wanted: ReplicaSet, settings: Settings) -> Iterator[Running]:
    """Ray on this machine with `wanted` replicas behind `settings.port`, all ready; ended in order afterwards.

    Raises:
        OSError: the address is taken.
        RelevanceError: the artifact cannot be read.
        RuntimeError, RayError: a replica, or Ray itself, could not be started.
    """
    read_manifest(settings.artifact)
    settings = settings.model_copy(update={"artifact": settings.artifact.absolute()})
    port = _free_port(settings.host, settings.port)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # noqa: TID251 - what Ray's processes are to find
    most = wanted.max_replicas or wanted.min_replicas
    ray.init(
        # More replicas than cores is the caller's choice; Ray would wait for cores that never come.
        num_cpus=max(len(os.sched_getaffinity(0)), most * wanted.threads),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
    )
    with ExitStack() as ends:
        ends.callback(ray.shutdown)
        ends.callback(serve.shutdown)
        options = HTTPOptions(host=settings.host, port=port, keep_alive_timeout_s=KEEP_ALIVE_S)
        serve.start(http_options=options, logging_config=QUIET)
        # Returns when the replicas have answered what they had; the proxies carry the answers, and end after that.
        ends.callback(serve.delete, NAME)
        serve.run(assemble(wanted, settings), name=NAME, route_prefix="/")
        yield Running(settings.host, port)


def _free_port(host: str, port: int) -> int:
    """`port`, or one that the system chooses where it is 0; Serve binds it itself, in another process."""
    with bind(host, port) as probe:
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str], wanted: ReplicaSet, say: Callable[[str], None]) -> int:
    """Serve until a signal; the exit status. `arguments` are those of the service."""
    try:
        settings = load_settings(arguments)
        if settings.workers is not None:
            raise InvalidSettingsError("workers: replicas take their place")
    except InvalidSettingsError as error:
        say(f"cannot start: {error}")
        return EXIT_UNUSABLE
    with ExitStack() as stack:
        try:
            served = stack.enter_context(running(wanted, settings))
        except OSError as error:
            say(f"cannot listen: {error.strerror}: {settings.host}:{settings.port}")
            return EXIT_ADDRESS
        except RelevanceError as error:
            say(f"cannot start: {error}")
            return EXIT_UNUSABLE
        except (RuntimeError, RayError) as error:
            say(f"cannot start the replicas: {error}")
            return EXIT_ENGINE
        _wait_for_signal(lambda: say(f"running on {served.url} with {wanted.min_replicas} replicas"))
    return 0


def _wait_for_signal(ready: Callable[[], None]) -> None:
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, stop)
    ready()
    stopped.wait()
