"""How far the service is: what /livez and /readyz say.

    loading -> warming_up -> self_testing -> ready -> draining -> stopping -> failed

`draining` serves what comes, but asks for no more: /readyz says 503 from there on. Stages may be skipped but are
never gone back to, so `failed` is final. The engine thread moves it up to `self_testing`, the event loop from there
on: it is `ready` only once the batcher takes work in.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Stage = Literal["loading", "warming_up", "self_testing", "ready", "draining", "stopping", "failed"]
_ORDER: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class Status:
    """A stage, and what is known about it."""

    stage: Stage
    detail: str


class Readiness:
    """The current status."""

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

    @property
    def is_serving(self) -> bool:
        """Whether what is asked is answered."""
        return self._status.stage in ("ready", "draining")

    def enter(self, stage: Stage, detail: str) -> None:
        """Move on to `stage`; ignored if that would be back."""
        if _ORDER.index(stage) >= _ORDER.index(self._status.stage):
            self._status = Status(stage, detail)
