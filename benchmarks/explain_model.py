"""A model that explains, put together as the service does it, in this process."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from benchmarks.engine import WORDS
from engine.base import Engine
from engine.ort import OrtEngine
from relevance.artifact import Artifact
from relevance.pair import Pair
from service.assembly import Assembler
from service.live_model import LiveModel
from service.metrics import Metrics
from service.settings import Settings

NUM_TOKENISE_THREADS = 2


@asynccontextmanager
async def running_model(artifact: Artifact, build: Callable[[], Engine] | None = None) -> AsyncIterator[LiveModel]:
    """The model, started; no score is remembered, so that every pair is computed."""
    executor = ThreadPoolExecutor(NUM_TOKENISE_THREADS)
    settings = Settings(score_cache_mib=0, explain_kv_mib=512)
    metrics = Metrics(artifact.manifest.spec.scale.names, ["ok"])
    model = Assembler(settings, metrics, executor, time.monotonic).assemble(artifact)
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    await model.started(build or (lambda: OrtEngine(artifact, num_threads=1)), failed.set_result)
    try:
        yield model
    finally:
        await model.close()
        executor.shutdown()


def long_pairs(artifact: Artifact, num_tokens: int, number: int) -> list[Pair]:
    """Pairs of one query and made-up documents, about `num_tokens` each in all."""
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    query, rng = "outdoor wall light with battery", random.Random(0)
    prefix = encoder.encode_prefix(query)
    pairs = []
    for place in range(number):
        words = [str(place)]
        while len(prefix.ids) + len(encoder.encode_documents(prefix, [" ".join(words)])[0].ids) < num_tokens:
            words += rng.choices(WORDS, k=8)
        pairs.append(Pair(query, " ".join(words)))
    return pairs
