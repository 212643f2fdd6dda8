"""Runs the service: `python -m service --artifact DIR --port N` (`--help` lists every setting).

Exit status: 0 after SIGTERM or SIGINT, 2 for a setting or an artifact that cannot be used, 3 when it cannot
listen, 4 when the engine could not be started or died. What concerns the whole process (signals, logging, garbage
collection) is set here only.
"""

import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Sequence

import prometheus_client
import uvicorn

from relevance.errors import RelevanceError
from service.app import create_app
from service.settings import InvalidSettingsError, Settings, load_settings

EXIT_UNUSABLE = 2
EXIT_ENGINE = 4

logger = logging.getLogger("service")


def _freeze_garbage() -> None:
    # All that lives now lives as long as the process: a full collection never needs to walk it again, and so
    # never stalls requests for it.
    gc.collect()
    gc.freeze()
    logger.info("ready")


def _serve(settings: Settings) -> int:
    fatal: list[BaseException] = []

    def stop(error: BaseException) -> None:
        fatal.append(error)
        server.should_exit = True

    app = create_app(settings, on_ready=_freeze_garbage, on_fatal=stop)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_level=settings.log_level,
            access_log=settings.access_log,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
        )
    )
    # uvicorn stops gracefully at the first signal, then raises it again for whoever started it: that is here.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if fatal:
        print(f"stopped: {type(fatal[0]).__name__}: {fatal[0]}", file=sys.stderr)
        return EXIT_ENGINE
    return 0


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal; returns the exit status."""
    try:
        settings = load_settings(arguments)
        logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s %(message)s")
        # Creation times would nearly double the series of /metrics, and nobody reads them.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        return _serve(settings)
    except (InvalidSettingsError, RelevanceError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return EXIT_UNUSABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
