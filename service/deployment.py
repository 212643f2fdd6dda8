"""Which model serves, and how another one takes over without a request being dropped.

    prepare   read and verify the folder -> same contract? -> engine thread: load, warm up, self-test
    commit    new requests lease the new model from here on; one assignment on the event loop
    drain     the old one answers what it holds, then its engine thread ends and its memory is freed

Whatever fails in `prepare` leaves the old model serving. For a while both are in memory.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.base import Engine
from relevance.artifact import Artifact
from relevance.errors import RelevanceError
from service.cost import CostModel
from service.errors import NotReadyError, SwapUnderWayError, UnusableArtifactError
from service.live_model import LiveModel

logger = logging.getLogger(__name__)

Build = Callable[[LiveModel], Engine]


class Deployment:
    """The current model, and those being drained behind it."""

    def __init__(
        self,
        first: LiveModel,
        load: Callable[[Path], Artifact],
        assemble: Callable[[Artifact], LiveModel],
        build: Build,
    ) -> None:
        """`load` reads and verifies a folder, `build` returns an engine that is warm and has passed its self-test;
        they run in threads of their own."""
        self.current = first
        self._load = load
        self._assemble = assemble
        self._build = build
        self._draining: dict[LiveModel, asyncio.Task[None]] = {}
        self._is_swapping = False
        self._on_death: Callable[[BaseException], None] = _do_nothing

    @contextmanager
    def lease(self) -> Iterator[LiveModel]:
        """The current model, kept alive for one request."""
        with self.current.lease() as model:
            yield model

    def start(self, on_ready: Callable[[], None], on_end: Callable[[BaseException], None]) -> None:
        """Start the first model; `on_end` is told when it, or whichever is current later, fails or dies."""
        self._on_death = on_end
        first = self.current
        first.start(lambda: self._build(first), on_ready, lambda error: self._ended(first, error))

    def _ended(self, model: LiveModel, error: BaseException) -> None:
        if model is self.current:
            self._on_death(error)
        else:
            logger.error("drained_engine_died", exc_info=error, extra={"fields": {"model": model.artifact.model_id}})

    async def prepare(self, folder: Path) -> LiveModel:
        """A model of the artifact in `folder`, ready to take over; the current one if nothing has changed.

        `commit` or `abandon` must follow.

        Raises:
            UnusableArtifactError: it cannot take over.
            SwapUnderWayError: one at a time.
            NotReadyError: nothing serves yet.
        """
        if self._is_swapping:
            raise SwapUnderWayError("another artifact is being loaded")
        self._is_swapping = True
        try:
            return await self._prepare(folder)
        except BaseException as error:
            self._is_swapping = False
            logger.error("swap_refused", extra={"fields": {"reason": str(error)}})
            raise

    def commit(self, model: LiveModel) -> LiveModel:
        """New requests lease `model`, which was prepared, from here on; returns the one that served before."""
        self._is_swapping = False
        old = self.current
        if model is not old:
            self._switch(model)
        return old

    async def abandon(self, model: LiveModel) -> None:
        """Let go of `model`, which was prepared."""
        self._is_swapping = False
        if model is not self.current:
            await model.close()

    async def _prepare(self, folder: Path) -> LiveModel:
        if not self.current.is_started:
            raise NotReadyError("the first artifact is not ready")
        try:
            artifact = await asyncio.to_thread(self._load, folder)
        except RelevanceError as error:
            raise UnusableArtifactError(str(error)) from error
        if artifact.hash == self.current.artifact.hash:
            return self.current
        check_contract(self.current.artifact, artifact)
        model = self._assemble(artifact)
        try:
            await model.started(lambda: self._build(model), lambda error: self._ended(model, error))
        except Exception as error:  # whatever an engine raises, out of memory included: it is not needed
            await model.close()
            raise UnusableArtifactError(f"{type(error).__name__}: {error}") from error
        except BaseException:  # cancelled, by a caller that went away or a service that stops
            await asyncio.shield(model.close())
            raise
        return model

    def _switch(self, model: LiveModel) -> None:
        old, self.current = self.current, model
        self._draining[old] = asyncio.create_task(self._retire(old))
        logger.info("swapped", extra={"fields": {"old": old.artifact.model_id, "new": model.artifact.model_id}})

    async def _retire(self, model: LiveModel) -> None:
        await model.drain()
        await model.close()
        del self._draining[model]
        logger.info("drained", extra={"fields": {"model": model.artifact.model_id}})

    @property
    def num_draining(self) -> int:
        """Models that older requests still hold."""
        return len(self._draining)

    @property
    def num_waiting_tokens(self) -> int:
        """Document tokens that wait for an engine, whichever."""
        return sum(model.scheduler.num_waiting_tokens for model in self._models)

    @property
    def num_waiting_documents(self) -> int:
        """Documents that wait for an engine, whichever."""
        return sum(model.scheduler.num_waiting_documents for model in self._models)

    @property
    def cost(self) -> CostModel:
        """What the current engine's calls take."""
        return self.current.scheduler.cost

    @property
    def score_cache_bytes(self) -> int:
        """Memory held by scores."""
        return sum(model.caches.scores.num_bytes for model in self._models)

    @property
    def prefix_cache_bytes(self) -> int:
        """Memory held by the KV of past queries."""
        return sum(model.caches.prefixes.num_bytes for model in self._models)

    @property
    def explain_kv_bytes(self) -> int:
        """Memory held by the KV of pairs and of answers, for explanations."""
        return sum(model.explainer.store_bytes + model.explainer.answer_bytes for model in self._models)

    @property
    def num_explain_streams(self) -> int:
        """Explanations that an engine has under way."""
        return sum(model.explainer.num_streams for model in self._models)

    @property
    def num_explain_holds(self) -> int:
        """Holds of explanations on pairs' KV."""
        return sum(model.explainer.num_held_pairs for model in self._models)

    @property
    def _models(self) -> tuple[LiveModel, ...]:
        return (self.current, *self._draining)

    async def close(self) -> None:
        """Close every model; requests that still wait fail as not ready."""
        for task in self._draining.values():
            task.cancel()
        for model in self._models:
            await model.close()


def check_contract(old: Artifact, new: Artifact) -> None:
    """What callers rely on must stay: the grades and their names, and whether an instruction is taken.

    Raises:
        UnusableArtifactError: it would not.
    """
    old_spec, new_spec = old.manifest.spec, new.manifest.spec
    if new_spec.scale.names != old_spec.scale.names:
        raise UnusableArtifactError(f"its grades are {new_spec.scale.names}, callers know {old_spec.scale.names}")
    if old_spec.template.instruction is not None and new_spec.template.instruction is None:
        raise UnusableArtifactError("its template takes no instruction, callers may send one")


def _do_nothing(_: object) -> None:
    pass
