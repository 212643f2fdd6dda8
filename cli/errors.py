"""What ends a command: one line on stderr and an exit status, never a traceback.

Status 0: done. 1: it could not be done. 2: it was asked for wrongly. 130: interrupted.
"""

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class CliError(Exception):
    """A command that cannot go on; the message says why, and what to do."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Missing(CliError):
    """A package that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not installed; in the checkout: pip install -e '.[{extra}]', or `make install-dev`"
        )
