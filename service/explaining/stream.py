"""One explanation under way, as the engine thread sees it: its answer's path and KV, and who listens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.base import AnswerKV, room_for
from service.errors import ServiceError
from service.explaining.choice import AnswerPath
from service.work import Prompt


class Listener(Protocol):
    """Whoever waits for a stream's tokens; told in the engine thread, so it must not take long, nor raise."""

    def tell(self, tokens: Sequence[int], is_last: bool, error: ServiceError | None) -> None:
        """The next tokens; after the last ones, or an error, nothing follows."""
        ...


@dataclass(slots=True, eq=False)
class Stream:
    """One explanation under way."""

    prompt: Prompt
    path: AnswerPath
    listener: Listener
    answer: AnswerKV | None = None
    """None until the KV of its pair is there."""
    resumed: bool = False
    num_cached_tokens: int = 0
    num_steps: int = 0
    last_step: int = 0
    """The number of the step it was in last; 0 before its first."""
    admitted_at: float = math.nan
    started_at: float = math.nan
    """Of its first engine call."""
    first_at: float = math.nan
    """When its first tokens were there."""

    @property
    def num_slots(self) -> int:
        """Of pair and answer once `path.next_ids` have gone through the model."""
        num_prompt = len(self.prompt.prefix_ids) + len(self.prompt.document_ids)
        return num_prompt + (0 if self.answer is None else self.answer.num_tokens) + len(self.path.next_ids)

    @property
    def room(self) -> int:
        """Slots of its row in the engine's next step."""
        return room_for(self.num_slots)
