"""What scores the pairs of a unit: the engine in this process, alone or with the explanations of its grades.

scores         engine/local.py: a query's documents behind one prefix
explanations   the service's own explainer around the same kind of engine, one after the other of the unit's pairs
               admitted together, so that they decode side by side
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from engine.local import LocalScorer
from engine.ort import OrtEngine
from relevance.artifact import Artifact, load_artifact
from relevance.pair import Pair
from relevance.scoring import FloatArray, most_likely_grade
from service.assembly import Assembler
from service.errors import ServiceError
from service.explaining.events import ExplanationRequest, Step
from service.live_model import LiveModel
from service.metrics import Metrics
from service.settings import Settings

EXPLAINED_TOGETHER = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """What was said of N pairs."""

    distributions: FloatArray
    """[N, K]."""
    explanations: list[str | None]
    """One a pair: the steps as a JSON object; None where there is none."""


class PairModel(Protocol):
    """Whatever judges pairs."""

    @property
    def num_tokens(self) -> int:
        """Tokens computed so far."""
        ...

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Judge N >= 1 pairs.

        Raises:
            ValueError: one of them cannot be rendered.
        """
        ...


class ScoringModel:
    """Grades only."""

    def __init__(self, artifact: Artifact, num_threads: int | None) -> None:
        self._engine = OrtEngine(artifact, num_threads=num_threads)
        self._scorer = LocalScorer(artifact, self._engine)

    @property
    def num_tokens(self) -> int:
        """Tokens computed so far."""
        return self._engine.num_row_tokens

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Judge N >= 1 pairs; those of one query share its prefix."""
        return Judged(self._scorer.distributions(pairs), [None] * len(pairs))


class ExplainingModel(ScoringModel):
    """Grades, and each grade's explanation from an explainer with an engine thread of its own."""

    def __init__(self, artifact: Artifact, num_threads: int | None) -> None:
        super().__init__(artifact, num_threads)
        self._loop = asyncio.new_event_loop()
        settings = Settings(score_cache_mib=0, max_explanations=EXPLAINED_TOGETHER)
        self._executor = ThreadPoolExecutor(1, "tokenise")
        metrics = Metrics(artifact.manifest.spec.scale.names, outcomes=[])
        self._model: LiveModel = Assembler(settings, metrics, self._executor, time.monotonic).assemble(artifact)
        self._ended: BaseException | None = None
        build = self._model.started(lambda: OrtEngine(artifact, num_threads=num_threads), self._end)
        self._loop.run_until_complete(build)

    def _end(self, error: BaseException) -> None:
        self._ended = error

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Judge and explain N >= 1 pairs."""
        distributions = super().judge(pairs).distributions
        grades = most_likely_grade(distributions).tolist()
        return Judged(distributions, self._loop.run_until_complete(self._explain_all(pairs, grades)))

    async def _explain_all(self, pairs: Sequence[Pair], grades: Sequence[int]) -> list[str | None]:
        room = asyncio.Semaphore(EXPLAINED_TOGETHER)

        async def one(pair: Pair, grade: int) -> str | None:
            async with room:
                return await self._explain(pair, grade)

        return await asyncio.gather(*(one(*each) for each in zip(pairs, grades, strict=True)))

    async def _explain(self, pair: Pair, grade: int) -> str | None:
        """The steps as JSON; None for a pair that leaves the model no room for an explanation."""
        steps: dict[str, object] = {}
        try:
            async with aclosing(self._model.explainer.explain(ExplanationRequest(pair, grade))) as events:
                async for event in events:
                    if isinstance(event, Step):
                        steps[event.name] = event.value
        except ServiceError as error:
            if self._ended is not None:
                raise RuntimeError(f"the engine ended: {self._ended}") from error
            return None
        return orjson.dumps(steps).decode()


def open_model(folder: Path, num_threads: int | None, explain: bool) -> PairModel:
    """The artifact in `folder`, loaded."""
    return (ExplainingModel if explain else ScoringModel)(load_artifact(folder), num_threads)
