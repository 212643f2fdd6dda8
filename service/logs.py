"""Log lines: one event with its fields and the request they belong to, as JSON or as text.

    logger.info("request", extra={"fields": {...}}) -> formatted here -> bounded queue -> writer thread -> stderr

Whoever logs never waits for the disk or for whoever reads the pipe: a line that finds the queue full is dropped,
one that cannot be written (a full disk, a closed pipe) is given up, and both are counted. No level logs any text
of a query or document.
"""

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

import orjson

MAX_QUEUED_LINES = 10_000
# What one write takes at most: the queue empties faster, and a line is still out at once when it is alone.
LINES_PER_WRITE = 200

REQUEST_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("request_fields", default=MappingProxyType({}))
"""What every line logged on behalf of a request carries: its id, and its trace if there is one."""


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    fields = record.__dict__.get("fields")
    return {**REQUEST_FIELDS.get(), **(fields if isinstance(fields, Mapping) else {})}


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "event", ...fields, "traceback"}`."""

    def __init__(self, fields: Mapping[str, object] = MappingProxyType({})) -> None:
        """`fields` are on every line."""
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        line: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **self._fields,
            **_fields_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # a lone surrogate in a message, a key that is no string: rare, and still worth a line
            return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`time LEVEL logger event key=value ...`, a traceback below."""

    def __init__(self, fields: Mapping[str, object] = MappingProxyType({})) -> None:
        """`fields` are on every line."""
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """One line and what is below it, without its end."""
        fields = "".join(f" {key}={value}" for key, value in {**self._fields, **_fields_of(record)}.items())
        line = f"{_time_of(record)} {record.levelname} {record.name} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class LogWriter(logging.Handler):
    """Hands formatted lines to a thread of its own, which writes them."""

    def __init__(self, write: Callable[[bytes], None], max_lines: int = MAX_QUEUED_LINES) -> None:
        """Start the thread; `write` is called in it and may block or raise OSError."""
        super().__init__()
        self._write = write
        self._lines: queue.Queue[bytes | None] = queue.Queue(max_lines)
        self.num_dropped = 0
        """Lines that found the queue full."""
        self.num_failed = 0
        """Lines that could not be written."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line."""
        try:
            self._lines.put_nowait((self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except queue.Full:
            self.num_dropped += 1
        except Exception:  # a line that cannot be formatted must not hurt whoever logged it
            self.num_failed += 1

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            lines = [line]
            is_last = False
            while len(lines) < LINES_PER_WRITE and not self._lines.empty():
                following = self._lines.get()
                is_last = following is None
                if following is None:
                    break
                lines.append(following)
            try:
                self._write(b"".join(lines))
            except OSError:
                self.num_failed += len(lines)
            if is_last:
                return

    def finish(self, timeout_s: float) -> None:
        """Write what is queued, waiting `timeout_s` at most, and end the thread."""
        try:
            self._lines.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)


def write_to(file_descriptor: int) -> Callable[[bytes], None]:
    """A function that writes all it is given to an open file."""

    def write(content: bytes) -> None:
        while content:
            content = content[os.write(file_descriptor, content) :]

    return write


def configure_logs(
    level: str,
    style: Literal["auto", "json", "text"],
    write: Callable[[bytes], None],
    *,
    is_terminal: bool,
    fields: Mapping[str, object],
) -> LogWriter:
    """Send everything that is logged in this process through one LogWriter, with `fields` on every line."""
    writer = LogWriter(write)
    is_text = style == "text" or (style == "auto" and is_terminal)
    writer.setFormatter(TextFormatter(fields) if is_text else JsonFormatter(fields))
    logging.basicConfig(level=level.upper(), handlers=[writer], force=True)
    return writer
