"""Log lines: one event each, the request they belong to, and never a reason to wait or to fail."""

import errno
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from service.logs import REQUEST_FIELDS, JsonFormatter, LogWriter, TextFormatter, write_to


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    one = logging.getLogger("tests.logs")
    one.propagate = False
    yield one
    one.handlers.clear()


def lines_of(logger: logging.Logger, formatter: logging.Formatter, log: Callable[[], None]) -> str:
    written: list[bytes] = []
    writer = LogWriter(written.append)
    writer.setFormatter(formatter)
    logger.addHandler(writer)
    log()
    writer.finish(10)
    return b"".join(written).decode()


def test_json_lines_carry_fields_request_and_traceback(logger: logging.Logger) -> None:
    def log() -> None:
        token = REQUEST_FIELDS.set({"request_id": "r-1", "trace_id": "t"})
        logger.warning("two %s", "words", extra={"fields": {"num_pairs": 3, "odd": {1: object}}})
        REQUEST_FIELDS.reset(token)
        try:
            raise ValueError("line\nbreak \udcff")
        except ValueError:
            logger.exception("failed")

    first, second = map(json.loads, lines_of(logger, JsonFormatter(), log).splitlines())
    assert first.pop("time").endswith("Z")
    assert first.pop("odd") is not None
    assert first == {
        "level": "warning",
        "logger": "tests.logs",
        "event": "two words",
        "request_id": "r-1",
        "trace_id": "t",
        "num_pairs": 3,
    }
    assert "ValueError: line\nbreak \udcff" in second["traceback"]
    assert "request_id" not in second


def test_text_lines_are_for_people(logger: logging.Logger) -> None:
    line = lines_of(logger, TextFormatter(), lambda: logger.error("event", extra={"fields": {"a": 1, "b": "x"}}))
    assert line.endswith(" ERROR tests.logs event a=1 b=x\n")


def test_a_full_disk_loses_lines_and_nothing_else(logger: logging.Logger) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(write_to(full))
    logger.addHandler(writer)
    for number in range(5):
        logger.error("lost %d", number)
    writer.finish(10)
    os.close(full)
    assert writer.num_failed == 5


def test_who_logs_never_waits_for_who_reads(logger: logging.Logger) -> None:
    going_on, written = threading.Event(), []

    def write(content: bytes) -> None:
        assert going_on.wait(10)
        written.append(content)

    writer = LogWriter(write, max_lines=3)
    logger.addHandler(writer)
    for number in range(50):
        logger.error("%d", number)
    # One line may be with the writer, three are queued.
    assert 46 <= writer.num_dropped <= 47
    going_on.set()
    writer.finish(10)
    assert b"".join(written).count(b"\n") == 50 - writer.num_dropped


def test_a_write_that_is_cut_short_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    def write_three(_: int, content: bytes) -> int:
        taken.append(bytes(content[:3]))
        return len(taken[-1])

    monkeypatch.setattr(os, "write", write_three)
    write_to(9)(b"eight by")
    assert taken == [b"eig", b"ht ", b"by"]


def test_an_end_while_nobody_reads_does_not_hang(logger: logging.Logger) -> None:
    never = threading.Event()

    def write(_: bytes) -> None:
        never.wait(10)
        raise OSError(errno.EPIPE, "nobody")

    writer = LogWriter(write)
    logger.addHandler(writer)
    logger.error("stuck")
    writer.finish(0.05)
    never.set()
