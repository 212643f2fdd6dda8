"""How many replicas a load asks for."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from scale.serving.policy import WAITING_TOKENS, QueuedTokens


@dataclass
class Seen:
    target_num_replicas: int
    waiting: list[float]
    total_num_requests: float = 100.0
    aggregated_metrics: Any = field(init=False)

    def __post_init__(self) -> None:
        self.aggregated_metrics = {WAITING_TOKENS: {f"replica {i}": n for i, n in enumerate(self.waiting)}}


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (Seen(2, [0, 0]), 2),  # busy, nothing waits: enough
        (Seen(2, [1000, 1000]), 2),  # as much as may wait
        (Seen(2, [1000, 1001]), 3),
        (Seen(2, [9000, 0]), 9),  # what waits at one waits for all
        (Seen(4, [0, 0, 0, 0], 2.9), 3),  # one fewer, however calm it is
        (Seen(4, [0, 0, 0, 0], 3.0), 4),  # the other three would have one each
        (Seen(4, [150, 150, 150, 0], 0.5), 4),  # something waits
        (Seen(1, [0], 0.0), 1),  # never none
    ],
)
def test_up_at_once_and_down_by_one(seen: Seen, wanted: int) -> None:
    assert QueuedTokens(1000)(seen) == (wanted, {})


def test_without_figures_all_stays_as_it_is() -> None:
    seen = Seen(3, [])
    seen.aggregated_metrics = None
    assert QueuedTokens(1000)(seen)[0] == 3
