"""When to try again, and until when. Pure but for the clock and the dice.

    the service said when (Retry-After)    then, and not sooner
    the connection could not be had        after base · 2^n seconds, n tries before, less up to half of it by chance
    anything else                          never: the same request would fail again

Nothing is tried that could not begin before the call's own deadline.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from answer_first_client.errors import AnswerFirstError, ConnectionLostError, DeadlineError, StatusError


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is."""

    max_retries: int = 3
    """Of one call, or of one stream without any event between."""
    base_s: float = 0.1
    max_wait_s: float = 10.0
    """Longer than this nobody waits: the error is raised instead."""
    random: Callable[[], float] = field(default=random.random, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)


class Patience:
    """One call's retries."""

    def __init__(self, retries: Retries, timeout_ms: int | None) -> None:
        self._retries = retries
        self._num_failures = 0
        self._deadline = None if timeout_ms is None else retries.clock() + timeout_ms / 1000

    def left_ms(self) -> int | None:
        """What is left of the call's time, at least 1; None where it has no deadline.

        Raises:
            DeadlineError: nothing is.
        """
        if self._deadline is None:
            return None
        left_ms = int(1000 * (self._deadline - self._retries.clock()))
        if left_ms < 1:
            raise DeadlineError({"code": "deadline_exceeded", "message": "the time given is over"}, 0)
        return left_ms

    def progressed(self) -> None:
        """Something was received: what failed before counts no more."""
        self._num_failures = 0

    def wait_s(self, error: AnswerFirstError) -> float:
        """How long to wait before the next try; raises `error` if there is to be none."""
        wait_s = self._wanted_s(error)
        if wait_s is None or self._num_failures >= self._retries.max_retries or wait_s > self._retries.max_wait_s:
            raise error
        if self._deadline is not None and self._retries.clock() + wait_s >= self._deadline:
            raise error
        self._num_failures += 1
        return wait_s

    def _wanted_s(self, error: AnswerFirstError) -> float | None:
        if isinstance(error, ConnectionLostError):
            return float(self._retries.base_s * 2**self._num_failures * (1 - self._retries.random() / 2))
        return error.retry_after_s if isinstance(error, StatusError) else None
