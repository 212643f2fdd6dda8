"""Runs the service: `python -m service --artifact DIR --port N` (`--help` lists every setting).

`service.process` lists the exit statuses. With `--workers N` this process only watches over N others.
"""

import logging
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path

from engine.devices import choose_device
from relevance.artifact import read_manifest
from service.assembly import num_workers_for
from service.logs import LogWriter
from service.process import EXIT_ADDRESS, EXIT_ENGINE, EXIT_UNUSABLE, serve, with_logs, work
from service.settings import InvalidSettingsError, Settings, load_settings
from service.supervisor import Supervisor, bind

logger = logging.getLogger("service")


def _supervise(settings: Settings, num_workers: int) -> int:
    try:
        listening = bind(settings.host, settings.port)
    except OSError as error:
        print(f"cannot listen: {error.strerror}: {settings.host}:{settings.port}", file=sys.stderr)
        return EXIT_ADDRESS
    with listening, tempfile.TemporaryDirectory(prefix="answer-first-") as folder:
        host, port = listening.getsockname()[:2]
        address = f"[{host}]" if listening.family is socket.AF_INET6 else host
        logger.info(f"running on http://{address}:{port}", extra={"fields": {"workers": num_workers}})
        context = multiprocessing.get_context("spawn")

        def run(index: int) -> SpawnProcess:
            process = context.Process(
                target=work, args=(settings, listening, Path(folder), index), name=f"worker {index}"
            )
            process.start()
            return process

        supervisor = Supervisor(
            run,
            num_workers,
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
    return with_logs(settings, lambda log: _serve(settings, log))


def _serve(settings: Settings, log: LogWriter) -> int:
    """Serve with as many workers as are asked for, or as pay.

    Raises:
        RelevanceError: the artifact has no manifest that can be read.
    """
    num_workers = settings.workers
    if num_workers is None:
        manifest = read_manifest(settings.artifact)
        on_processor = choose_device(settings.device, manifest.target) == "cpu"
        num_workers = num_workers_for(manifest.graph.hidden_size, len(os.sched_getaffinity(0))) if on_processor else 1
        settings = settings.model_copy(update={"workers": num_workers})
    return _supervise(settings, num_workers) if num_workers > 1 else serve(settings, log)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
