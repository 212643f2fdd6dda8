"""The part of the composition root that puts one model together: an artifact's own scheduler, caches and scorer."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime

from engine.prefix_cache import PrefixCache
from relevance.artifact import Artifact
from service.batcher import Batcher
from service.cost import CostModel
from service.dialect import ServedModel, Stamp
from service.explaining.events import ExplainingFigures
from service.explaining.explainer import Explainer
from service.explaining.grouping import AS_A_BATCH, IN_ONE_ROW
from service.explaining.kv_store import KVStore
from service.explaining.streams import Streams
from service.explaining.turns import Turns
from service.live_model import Caches, LiveModel, Scoring
from service.metrics import Metrics
from service.pair_cache import PairCache, RemoteCache
from service.queue_metrics import QueueMetrics
from service.scheduler import PackLimits, Scheduler
from service.score import Scorer
from service.score_cache import ScoreCache
from service.settings import InvalidSettingsError, Settings

# Below this, operators are too short for a second thread to pay: results/workers.json.
SMALL_HIDDEN_SIZE = 1024
# More processes are not taken to pay for their memory unasked: nobody has measured them.
MAX_DEFAULT_WORKERS = 8


def num_workers_for(hidden_size: int, num_cores: int) -> int:
    """Processes that serve one machine: a small model's operators do not fill several cores, so several models do."""
    return min(num_cores, MAX_DEFAULT_WORKERS) if hidden_size < SMALL_HIDDEN_SIZE else 1


def num_threads_for(artifact: Artifact, asked: int | None, num_workers: int, num_cores: int) -> int | None:
    """Threads of one model run; None leaves it to ONNX Runtime, which takes one per physical core."""
    if asked is not None:
        return asked
    if artifact.manifest.graph.hidden_size < SMALL_HIDDEN_SIZE:
        return 1
    return None if num_workers == 1 else max(1, num_cores // num_workers)


class Assembler:
    """Builds a LiveModel for any artifact; what all of them share is given here once."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        executor: Executor,
        clock: Callable[[], float],
        remote: RemoteCache | None = None,
    ) -> None:
        """`remote` holds the scores of all artifacts."""
        self._settings = settings
        self._remote = remote
        self._metrics = metrics
        self._executor = executor
        self._clock = clock
        self.explaining = ExplainingFigures()
        """Of all models together: counters must not fall when a model goes."""

    def assemble(self, artifact: Artifact) -> LiveModel:
        """A model that has not been started."""
        cost = CostModel()
        scheduler = Scheduler(_pack_limits(self._settings), cost, self._clock)
        prefix_cache = PrefixCache(self._settings.prefix_cache_mib * 2**20)
        streams = Streams(
            self._settings.max_explanations,
            KVStore(self._settings.explain_kv_mib * 2**20),
            prefix_cache,
            Turns(self._settings.explain_share),
            self._clock,
            IN_ONE_ROW if artifact.answer_graph_path is None else AS_A_BATCH,
            figures=self.explaining,
        )
        batcher = Batcher(scheduler, prefix_cache, cost, self._metrics, self._clock, streams)
        local = ScoreCache(self._settings.score_cache_mib * 2**20)
        cache = PairCache(artifact.hash, local, self._remote, self._metrics.queue)
        scorer = Scorer(artifact, batcher, cache, self._executor, self._clock)
        served = served_model(artifact, self._settings)
        explainer = Explainer(artifact, batcher, streams, self._executor, self._clock)
        scoring = Scoring(scorer, batcher, scheduler, Caches(prefix_cache, local))
        return LiveModel(artifact, served, scoring, explainer)


def open_remote(settings: Settings, metrics: QueueMetrics) -> RemoteCache | None:
    """The cache that replicas share, if there is one.

    Raises:
        InvalidSettingsError: it cannot be used.
    """
    if settings.redis_url is None:
        return None
    try:
        from service.redis_cache import RedisCache  # noqa: PLC0415 - an extra, loaded where it is asked for
    except ImportError as error:
        raise InvalidSettingsError("redis_url: needs the extra `redis`") from error
    try:
        return RedisCache(settings.redis_url, settings.redis_timeout_ms / 1000, settings.redis_ttl_seconds, metrics)
    except ValueError as error:
        raise InvalidSettingsError(f"redis_url: {error}") from error


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
