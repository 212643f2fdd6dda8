"""One process that serves: alone, or as one of several workers. What concerns a whole process is set here only.

Exit status: 0 after SIGTERM or SIGINT, 2 for a setting or an artifact that cannot be used, 3 when it cannot
listen, 4 when the engine could not be started or died, 5 when the event loop was blocked for too long.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import prometheus_client

from relevance.errors import RelevanceError
from service import garbage
from service.app import ProcessHooks, create_app
from service.control import Control
from service.logs import LogWriter, configure_logs, write_to
from service.server import Server, Signals, server_config
from service.settings import InvalidSettingsError, Settings
from service.siblings import Siblings
from service.supervisor import end_with_parent

EXIT_UNUSABLE = 2
EXIT_ADDRESS = 3
EXIT_ENGINE = 4
EXIT_STALLED = 5
# How long the last lines may take to be written.
LAST_LINES_S = 2.0

logger = logging.getLogger("service")


def _ready() -> None:
    garbage.freeze()
    logger.info("service ready")


def _exit_stalled(late_s: float) -> None:
    # The loop cannot end anything in order. What waits for it is lost either way; a supervisor starts it anew.
    print(f"stopped: the event loop has been blocked for {late_s:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_STALLED)


def with_logs(settings: Settings, run: Callable[[LogWriter], int], worker: int | None = None) -> int:
    """Set up logging, run, and say on stderr why if it cannot; the exit status."""
    fields = {} if worker is None else {"worker": worker}
    write = write_to(sys.stderr.fileno())
    log = configure_logs(settings.log_level, settings.log_format, write, is_terminal=sys.stderr.isatty(), fields=fields)
    try:
        return run(log)
    except (InvalidSettingsError, RelevanceError) as error:
        log.finish(LAST_LINES_S)
        print(f"cannot start: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_UNUSABLE
    finally:
        log.finish(LAST_LINES_S)


def serve(
    settings: Settings, log: LogWriter, listening: socket.socket | None = None, siblings: Siblings | None = None
) -> int:
    """Serve until a signal; the exit status.

    Raises:
        InvalidSettingsError, RelevanceError: it cannot be started.
    """
    # Creation times would nearly double the series of /metrics, and nobody reads them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    fatal: list[BaseException] = []

    def stop(error: BaseException) -> None:
        fatal.append(error)
        server.should_exit = True

    hooks = ProcessHooks(_ready, stop, _exit_stalled, lambda: log.num_dropped + log.num_failed)
    app = create_app(settings, hooks=hooks, siblings=siblings)
    control: Control = app.state.control
    config = server_config(app, settings.host, settings.port, settings.drain_seconds)
    signals = Signals(control.leave, control.cut_off, control.request_reload)
    server = Server(config, signals, delay_s=settings.stop_delay_seconds, drain_s=settings.drain_seconds)
    server.run([listening] if listening is not None else None)
    if fatal:
        log.finish(LAST_LINES_S)
        print(f"stopped: {type(fatal[0]).__name__}: {fatal[0]}", file=sys.stderr)  # noqa: T201
        return EXIT_ENGINE
    return 0


def work(settings: Settings, listening: socket.socket, folder: Path, index: int) -> None:
    """Serve as worker `index`; the body of a process that a Supervisor started. Ends the process."""
    siblings = Siblings(folder, index, settings.workers or 1)
    settings = settings.model_copy(update={"artifact": siblings.remembered_artifact() or settings.artifact})
    # Ctrl-C reaches every process of a terminal; the supervisor tells the workers what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    sys.exit(with_logs(settings, lambda log: serve(settings, log, listening, siblings), index))
