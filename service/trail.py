"""What a request leaves behind for whoever looks at it from outside: its caller, its times, its pairs.

    middleware puts a Trail into the scope -> the routes charge and fill it -> logs, traces and shadow mode read it

The routes know none of its readers, and none of them can change an answer.
"""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relevance.pair import Pair
from service.operations_metrics import ANONYMOUS
from service.score import ScoredRequest
from service.tokenise import Cut

TRAIL_KEY = "service.trail"


def _free(_: int) -> None:
    pass


@dataclass(slots=True)
class Trail:
    """One request."""

    caller: str = ANONYMOUS
    """The name of its key."""
    charge_documents: Callable[[int], None] = _free
    """Take a number of documents from the caller's allowance.

    Raises:
        ServiceError: it is used up.
    """
    dialect: str = ""
    num_pairs: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Time per stage, in the order they happened; empty for what was not scored."""
    finished_at: float = 0.0
    """End of the last stage, in seconds of the app's clock."""
    on_scored: Callable[[Sequence[Pair], Cut, ScoredRequest], None] | None = None
    """Told of the pairs and their scores once the answer is made."""


def trail_of(scope: MutableMapping[str, Any]) -> Trail:
    """The trail of a request; a fresh one where nobody looks."""
    trail = scope.get(TRAIL_KEY)
    if not isinstance(trail, Trail):
        trail = scope[TRAIL_KEY] = Trail()
    return trail
