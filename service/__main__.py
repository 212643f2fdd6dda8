"""Runs the service: `python -m service --artifact DIR --port N` (`--help` lists every setting).

Exit status: 0 after SIGTERM or SIGINT, 2 for a setting or an artifact that cannot be used, 3 when it cannot
listen, 4 when the engine could not be started or died, 5 when the event loop was blocked for too long. What
concerns the whole process (signals, logging, garbage collection) is set here only.
"""

import logging
import os
import sys
from collections.abc import Sequence

import prometheus_client

from relevance.errors import RelevanceError
from service import garbage
from service.app import ProcessHooks, create_app
from service.control import Control
from service.logs import LogWriter, configure_logs, write_to
from service.server import Server, Signals, server_config
from service.settings import InvalidSettingsError, Settings, load_settings

EXIT_UNUSABLE = 2
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
    print(f"stopped: the event loop has been blocked for {late_s:.0f} s", file=sys.stderr, flush=True)
    os._exit(EXIT_STALLED)


def _serve(settings: Settings, log: LogWriter) -> int:
    fatal: list[BaseException] = []

    def stop(error: BaseException) -> None:
        fatal.append(error)
        server.should_exit = True

    hooks = ProcessHooks(_ready, stop, _exit_stalled, lambda: log.num_dropped + log.num_failed)
    app = create_app(settings, hooks=hooks)
    control: Control = app.state.control
    config = server_config(app, settings.host, settings.port, settings.drain_seconds)
    signals = Signals(control.leave, control.cut_off, control.request_reload)
    server = Server(config, signals, delay_s=settings.stop_delay_seconds, drain_s=settings.drain_seconds)
    server.run()
    if fatal:
        log.finish(LAST_LINES_S)
        print(f"stopped: {type(fatal[0]).__name__}: {fatal[0]}", file=sys.stderr)
        return EXIT_ENGINE
    return 0


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal; returns the exit status."""
    log: LogWriter | None = None
    try:
        settings = load_settings(arguments)
        log = configure_logs(
            settings.log_level, settings.log_format, write_to(sys.stderr.fileno()), sys.stderr.isatty()
        )
        # Creation times would nearly double the series of /metrics, and nobody reads them.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        return _serve(settings, log)
    except (InvalidSettingsError, RelevanceError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    finally:
        if log is not None:
            log.finish(LAST_LINES_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
