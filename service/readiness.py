"""How far the service is: what /livez and /readyz say.

    loading -> warming_up -> self_testing -> ready -> stopping
         any of them -> failed

The engine thread moves it forward, the event loop reads it; a stage is replaced whole, so no lock is needed.
"""

from dataclasses import dataclass
from typing import Literal

Stage = Literal["loading", "warming_up", "self_testing", "ready", "stopping", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
    """A stage, and what is known about it."""

    stage: Stage
    detail: str


class Readiness:
    """The current status; `failed` is final."""

    def __init__(self) -> None:
        self._status = Status("loading", "the engine is being loaded")

    @property
    def status(self) -> Status:
        """The stage it is in, and what is known about it."""
        return self._status

    @property
    def is_ready(self) -> bool:
        """Whether it may be sent traffic."""
        return self._status.stage == "ready"

    def enter(self, stage: Stage, detail: str) -> None:
        """Move on to `stage`."""
        if self._status.stage != "failed":
            self._status = Status(stage, detail)
