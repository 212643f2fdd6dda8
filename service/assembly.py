"""The part of the composition root that puts one model together: an artifact's own scheduler, caches and scorer."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime

from engine.prefix_cache import PrefixCache
from relevance.artifact import Artifact
from service.batcher import Batcher
from service.dialect import ServedModel, Stamp
from service.live_model import LiveModel
from service.metrics import Metrics
from service.scheduler import PackLimits, Scheduler
from service.score import Scorer
from service.settings import Settings


class Assembler:
    """Builds a LiveModel for any artifact; what all of them share is given here once."""

    def __init__(self, settings: Settings, metrics: Metrics, executor: Executor, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._executor = executor
        self._clock = clock

    def assemble(self, artifact: Artifact) -> LiveModel:
        """A model that has not been started."""
        scheduler = Scheduler(_pack_limits(self._settings), self._clock)
        prefix_cache = PrefixCache(self._settings.prefix_cache_mib * 2**20)
        batcher = Batcher(scheduler, prefix_cache, self._metrics, self._clock)
        scorer = Scorer(artifact.manifest.spec, artifact.tokenizer, batcher, self._executor, self._clock)
        return LiveModel(artifact, served_model(artifact, self._settings), scorer, batcher, scheduler, prefix_cache)


def served_model(artifact: Artifact, settings: Settings) -> ServedModel:
    """What the dialects may tell of `artifact`."""
    manifest = artifact.manifest
    return ServedModel(
        name=manifest.name,
        hash=artifact.hash,
        precision=manifest.precision,
        created=int(datetime.fromisoformat(manifest.provenance.created).timestamp()),
        grade_names=manifest.spec.scale.names,
        label_token_ids=manifest.label_token_ids,
        max_tokens=manifest.spec.limits.max_tokens,
        max_documents=settings.max_documents,
        max_pack_tokens=settings.max_pack_tokens,
        max_waiting_tokens=settings.max_waiting_tokens,
    )


def new_stamp() -> Stamp:
    """A UUID and the time."""
    return Stamp(str(uuid.uuid4()), int(time.time()))


def _pack_limits(settings: Settings) -> PackLimits:
    return PackLimits(
        max_pack_tokens=settings.max_pack_tokens,
        # Every token of a pack is compared with all prefixes in it: past this, two packs beat one.
        max_past_tokens=settings.max_pack_tokens,
        max_waiting_tokens=settings.max_waiting_tokens,
    )
