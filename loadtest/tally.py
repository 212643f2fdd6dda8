"""What became of requests, counted as they end: outcomes, and HdrHistograms of times, which add up over processes.

Every request has one outcome:

    ok         answered whole                          partial   some documents are missing from the answer
    refused    429: too much load, or too little time   expired   504: let in, and too late after all
    cancelled  hung up on by the plan                   unsent    due while too many were under way in its process
    lost       no answer: the connection failed         http_NNN  any other status
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hdrh.histogram import HdrHistogram

from loadtest.mix import Request
from loadtest.sender import HUNG_UP, LOST, Answer

STAGES = ("tokenise", "queue", "infer", "post")
_BY_STATUS = {429: "refused", 504: "expired", HUNG_UP: "cancelled", LOST: "lost"}
# 1 us to ten minutes, three digits: an error of a thousandth at any length.
_MAX_US, _DIGITS = 600_000_000, 3
_TIMING = re.compile(r"([\w-]+)\s*;\s*dur=([\d.]+)")


class Times:
    """A histogram of durations."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _MAX_US, _DIGITS)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One duration; below a microsecond it counts as one, and above ten minutes as ten minutes."""
        self._histogram.record_value(min(_MAX_US, max(1, round(1e6 * seconds))))
        self._sum_s += seconds

    def merge(self, other: "Times") -> None:
        """All durations of `other` too."""
        self._histogram.add(other._histogram)
        self._sum_s += other._sum_s

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    @property
    def sum_s(self) -> float:
        """Of all durations, exact."""
        return self._sum_s

    def mean_ms(self) -> float | None:
        """Mean, exact; None of none."""
        return 1e3 * self._sum_s / len(self) if len(self) else None

    def percentile_ms(self, percent: float) -> float | None:
        """What `percent` of the durations took at most; None of none."""
        return float(self._histogram.get_value_at_percentile(percent)) / 1e3 if len(self) else None

    def curve(self, num_points: int = 200) -> list[tuple[float, float]]:
        """(milliseconds, share that took at most so long), ascending."""
        if not len(self):
            return []
        shares = [n / num_points for n in range(1, num_points)] + [0.995, 0.999, 1.0]
        return [(self.percentile_ms(100 * share) or 0.0, share) for share in shares]

    def __getstate__(self) -> tuple[bytes, float]:
        return bytes(self._histogram.encode()), self._sum_s

    def __setstate__(self, state: tuple[bytes, float]) -> None:
        self._histogram = HdrHistogram.decode(state[0])
        self._sum_s = state[1]


@dataclass(slots=True)
class Tally:
    """Counts and times of requests that were due in one window."""

    outcomes: Counter[str] = field(default_factory=Counter)
    num_in_time: int = 0
    num_documents: int = 0
    """Answered ones."""
    num_distinct_pairs: int = 0
    num_cached_pairs: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    times: dict[str, Times] = field(default_factory=dict)

    def times_of(self, name: str) -> Times:
        """The durations under a name."""
        return self.times.setdefault(name, Times())

    @property
    def num_sent(self) -> int:
        """Requests that were due, `unsent` ones included."""
        return self.outcomes.total()

    def add(self, request: Request, answer: Answer, slo_s: float) -> str:
        """Count a request; its outcome."""
        self.times_of("late_send").add(answer.late_send_s)
        outcome = _BY_STATUS.get(answer.status, f"http_{answer.status}")
        if answer.status == 200:
            outcome = self._add_answered(request, answer)
            self.num_in_time += outcome == "ok" and answer.seconds <= slo_s
        elif outcome == "refused":
            self.times_of("refused").add(answer.seconds)
        self.outcomes[outcome] += 1
        return outcome

    def _add_answered(self, request: Request, answer: Answer) -> str:
        body = orjson.loads(answer.body)
        facts: dict[str, Any] = body if isinstance(body, dict) else {}
        usage = facts.get("usage") or {}
        self.num_documents += request.num_documents
        self.num_distinct_pairs += usage.get("num_distinct_pairs", 0)
        self.num_cached_pairs += usage.get("num_cached_pairs", 0)
        self.times_of("answer").add(answer.seconds)
        self.times_of("service").add(answer.service_s)
        told = stages_of(answer.headers.get("server-timing", ""))
        if "total" in told:
            self._add_stages(answer, told)
        return "ok" if facts.get("coverage", 1.0) == 1.0 else "partial"

    def _add_stages(self, answer: Answer, told: dict[str, float]) -> None:
        """Where the answer's time went: the parts add up to the whole."""
        for stage in STAGES:
            self.times_of(f"stage:{stage}").add(told.get(stage, 0.0))
        total = told["total"]
        self.times_of("total").add(total)
        self.times_of("stage:rest of the service").add(max(0.0, total - sum(told.get(stage, 0.0) for stage in STAGES)))
        self.times_of("stage:outside the service").add(max(0.0, answer.service_s - total))
        self.times_of("stage:late sending").add(answer.late_send_s)

    def add_explained(self, answer: Answer, is_complete: bool) -> None:
        """Count an explanation."""
        if answer.status == 200 and is_complete:
            self.explained["ok"] += 1
            self.times_of("explain").add(answer.service_s)
            if answer.first_piece_s is not None:
                self.times_of("first_piece").add(answer.first_piece_s)
        else:
            self.explained[_BY_STATUS.get(answer.status, f"http_{answer.status}")] += 1

    def merge(self, other: "Tally") -> None:
        """All of `other` too."""
        self.outcomes.update(other.outcomes)
        self.explained.update(other.explained)
        self.num_in_time += other.num_in_time
        self.num_documents += other.num_documents
        self.num_distinct_pairs += other.num_distinct_pairs
        self.num_cached_pairs += other.num_cached_pairs
        for name, times in other.times.items():
            self.times_of(name).merge(times)


def merged(tallies: Sequence[Tally] | Iterator[Tally]) -> Tally:
    """One tally of several."""
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole


def stages_of(header: str) -> dict[str, float]:
    """Seconds by stage, as `Server-Timing` tells them in milliseconds."""
    return {name: float(value) / 1e3 for name, value in _TIMING.findall(header)}
