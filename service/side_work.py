"""What the engine does beside scoring, as the batcher sees it: explanations.

The batcher asks between two engine calls, with its lock held. Whoever implements this keeps its state under that lock
(`Batcher.lock`); only `EngineStep.run` and `SideWork.choose` are called without it, in the engine thread.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.base import Engine, PromptKV
from service.errors import EngineFailedError, ServiceError
from service.work import Prompt, WaitingDocument

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Chosen:
    """What a pack of scores changes of what is kept."""

    added: list[tuple[Prompt, PromptKV]] = field(default_factory=list)
    dropped: list[Prompt] = field(default_factory=list)


class EngineStep(Protocol):
    """One short use of the engine."""

    def run(self, engine: Engine) -> None:
        """Use the engine; no lock is held."""
        ...

    def finish(self, seconds: float) -> None:
        """It has run, for `seconds`."""
        ...

    def fail(self, error: ServiceError) -> None:
        """It has raised."""
        ...


class SideWork(Protocol):
    """Work beside scoring, in steps."""

    def next_step(self, scores_wait: bool) -> EngineStep | None:
        """What to do now; None if there is nothing to do, or scores that wait go first."""
        ...

    def wants_kv(self, document: WaitingDocument) -> bool:
        """Whether the KV of a document about to be scored may be worth keeping."""
        ...

    def choose(
        self, documents: Sequence[WaitingDocument], label_logits: NDArray[np.float32], kept: Sequence[PromptKV | None]
    ) -> Chosen:
        """What to keep of documents that were scored, [N, K], and of the KV of those that were wanted; copied."""
        ...

    def keep(self, chosen: Chosen) -> None:
        """Keep it."""
        ...

    def has_scored(self, seconds: float) -> None:
        """The engine spent `seconds` on scores."""
        ...

    def end(self, error: ServiceError) -> None:
        """The engine is gone: nothing goes on."""
        ...


class NoSideWork:
    """None at all."""

    def next_step(self, scores_wait: bool) -> EngineStep | None:
        """Nothing, ever."""
        del scores_wait
        return None

    def wants_kv(self, document: WaitingDocument) -> bool:
        """Nobody does."""
        del document
        return False

    def choose(
        self, documents: Sequence[WaitingDocument], label_logits: NDArray[np.float32], kept: Sequence[PromptKV | None]
    ) -> Chosen:
        """Nothing was wanted."""
        del documents, label_logits, kept
        return Chosen()

    def keep(self, chosen: Chosen) -> None:
        """Nothing was chosen."""

    def has_scored(self, seconds: float) -> None:
        """Nobody waits for a turn."""

    def end(self, error: ServiceError) -> None:
        """Nothing was going on."""


def run_step(
    step: EngineStep,
    engine: Engine,
    clock: Callable[[], float],
    lock: AbstractContextManager[object],
    count_failure: Callable[[], None],
) -> None:
    """Run a step and tell it, under `lock`, how that went."""
    began = clock()
    try:
        step.run(engine)
    except Exception as error:
        logger.error("engine_step_failed", exc_info=error)
        count_failure()
        with lock:
            step.fail(EngineFailedError("the model failed on this explanation"))
    else:
        with lock:
            step.finish(clock() - began)
