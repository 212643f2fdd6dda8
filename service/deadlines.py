"""From what a caller says about time to the moment its answer must be scored.

    timeout   `timeout_ms` of the body, the header X-Timeout-Ms, or the setting's default; of several the shortest
    deadline  arrival + timeout - what writing the answer takes

Writing an answer includes the way from the engine thread back to the event loop. It is learned from the answers that
were written, as a line over their pairs, and taken off with twice its usual error: an answer leaves at its timeout,
not after it.
"""

import math

from service.cost import CostModel
from service.errors import FieldError, InvalidFieldsError

HEADER = "X-Timeout-Ms"
# Of a timeout that is kept for writing: what is refused for its sake teaches nothing about it.
MAX_SHARE = 0.25


class Deadlines:
    """Turns timeouts into deadlines."""

    def __init__(self, default_ms: int | None, max_ms: int) -> None:
        """`default_ms` is for requests that name none, and None for no deadline; no request may name over `max_ms`."""
        self._default_ms = default_ms
        self._max_ms = max_ms
        self._writing = CostModel(seconds_per_token=5e-6, seconds_per_call=5e-4)

    def read_header(self, value: str | None) -> int | None:
        """The timeout of a header's value, in milliseconds.

        Raises:
            InvalidFieldsError: it is no whole number within the bounds.
        """
        if value is None:
            return None
        if not (value.isascii() and value.isdecimal() and len(value) < 12):
            raise InvalidFieldsError([FieldError(HEADER, "must be a whole number of milliseconds", "int_parsing")])
        return self._checked(HEADER, int(value))

    def timeout_s(self, header_ms: int | None, body_ms: int | None) -> float:
        """The timeout of a request in seconds; infinite if it has none.

        Raises:
            InvalidFieldsError: the body's is out of bounds.
        """
        named = [one for one in (header_ms, self._checked("timeout_ms", body_ms)) if one is not None]
        timeout_ms = min(named) if named else self._default_ms
        return math.inf if timeout_ms is None else timeout_ms / 1000

    def _checked(self, field: str, timeout_ms: int | None) -> int | None:
        if timeout_ms is not None and not 1 <= timeout_ms <= self._max_ms:
            raise InvalidFieldsError([FieldError(field, f"must be from 1 to {self._max_ms} milliseconds")])
        return timeout_ms

    def scored_by(self, arrived_at: float, timeout_s: float, num_pairs: int) -> float:
        """By when `num_pairs` must have been scored."""
        if timeout_s == math.inf:
            return math.inf
        writing_s = self._writing.seconds(num_pairs) + 2 * self._writing.usual_error_s
        return arrived_at + timeout_s - min(writing_s, MAX_SHARE * timeout_s)

    def observe(self, num_pairs: int, seconds: float) -> None:
        """Learn that an answer of `num_pairs` left `seconds` after it had been scored."""
        self._writing.observe(num_pairs, seconds)
