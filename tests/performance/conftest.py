"""Counting what code does, instead of timing it: the same numbers on every machine, busy or not."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Calls:
    """Functions called in one thread."""

    python: int = 0
    """Written in Python, generators' steps included."""
    c: int = 0


@contextmanager
def counted() -> Iterator[Calls]:
    """Count what this thread calls meanwhile."""
    calls = Calls()

    def count(_: FrameType, event: str, __: object) -> None:
        calls.python += event == "call"
        calls.c += event == "c_call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def per_further(function: Callable[[int], object], few: int, many: int) -> Calls:
    """Calls that each further one of `many` instead of `few` costs; `function` is called with both, once before."""
    found = []
    for size in (few, many):
        function(size)
        with counted() as calls:
            function(size)
        found.append(calls)
    return _difference(found, many - few)


async def per_further_awaited(function: Callable[[int], Awaitable[object]], few: int, many: int) -> Calls:
    """The same of a coroutine function, and of whatever else runs on its loop meanwhile."""
    found = []
    for size in (few, many):
        await function(size)
        with counted() as calls:
            await function(size)
        found.append(calls)
    return _difference(found, many - few)


def _difference(found: list[Calls], num_further: int) -> Calls:
    few, many = found
    return Calls(round((many.python - few.python) / num_further), round((many.c - few.c) / num_further))
