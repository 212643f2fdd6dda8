"""Runs the service: `python -m service --artifact DIR --port N` (`--help` lists every setting).

`service.process` lists the exit statuses. With `--workers N` this process only watches over N others.
"""

import logging
import multiprocessing
import socket
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path

from service.process import EXIT_ADDRESS, EXIT_ENGINE, EXIT_UNUSABLE, serve, with_logs, work
from service.settings import InvalidSettingsError, Settings, load_settings
from service.supervisor import Supervisor, bind

logger = logging.getLogger("service")


def _supervise(settings: Settings) -> int:
    try:
        listening = bind(settings.host, settings.port)
    except OSError as error:
        print(f"cannot listen: {error.strerror}: {settings.host}:{settings.port}", file=sys.stderr)
        return EXIT_ADDRESS
    with listening, tempfile.TemporaryDirectory(prefix="answer-first-") as folder:
        host, port = listening.getsockname()[:2]
        address = f"[{host}]" if listening.family is socket.AF_INET6 else host
        logger.info(f"running on http://{address}:{port}", extra={"fields": {"workers": settings.workers}})
        context = multiprocessing.get_context("spawn")

        def run(index: int) -> SpawnProcess:
            process = context.Process(
                target=work, args=(settings, listening, Path(folder), index), name=f"worker {index}"
            )
            process.start()
            return process

        supervisor = Supervisor(
            run,
            settings.workers,
            stop_within_s=settings.stop_delay_seconds + settings.drain_seconds,
            hopeless={EXIT_UNUSABLE: "a setting or the artifact cannot be used"},
            failed_status=EXIT_ENGINE,
        )
        return supervisor.serve()


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal; returns the exit status."""
    try:
        settings = load_settings(arguments)
    except InvalidSettingsError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    if settings.workers > 1:
        return with_logs(settings, lambda _: _supervise(settings))
    return with_logs(settings, lambda log: serve(settings, log))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
