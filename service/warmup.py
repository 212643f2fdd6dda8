"""From a loaded engine to one that may be trusted: warm-up, then the self-test. Runs in the engine thread.

Warm-up runs packs of several sizes, up to the largest the scheduler will form, so that no caller pays for the
first allocation of a shape class. The self-test scores the artifact's golden pairs: an engine that does not
compute here what was published never becomes ready.
"""

import logging

from engine.base import DocumentWork, Engine
from engine.local import self_test
from relevance.artifact import Artifact
from service.readiness import Readiness

logger = logging.getLogger(__name__)

# Each share of the largest pack is run twice: the second run is the one the first prepared.
WARM_UP_SHARES = (0.0, 0.25, 0.5, 1.0)
RUNS_PER_SHARE = 2


def prepare(engine: Engine, artifact: Artifact, max_pack_tokens: int, readiness: Readiness) -> None:
    """Warm up and self-test `engine`, saying in `readiness` how far it is.

    Raises:
        ArtifactError: the self-test failed.
    """
    for number, share in enumerate(WARM_UP_SHARES, start=1):
        readiness.enter("warming_up", f"pack size {number} of {len(WARM_UP_SHARES)}")
        for _ in range(RUNS_PER_SHARE):
            _run_pack(engine, artifact, int(share * max_pack_tokens))
    readiness.enter("self_testing", f"{len(artifact.manifest.golden_pairs)} golden pairs")
    difference = self_test(artifact, engine)
    logger.info("self_test_passed", extra={"fields": {"largest_difference": difference}})


def _run_pack(engine: Engine, artifact: Artifact, num_tokens: int) -> None:
    """One prefix and as many copies of a golden document as `num_tokens` holds, at least one."""
    golden = artifact.manifest.golden_pairs[0]
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    prefix = encoder.encode_prefix(golden.query, golden.instruction)
    (document,) = encoder.encode_documents(prefix, [golden.document])
    copies = max(1, num_tokens // len(document.ids))
    documents = encoder.encode_documents(prefix, [golden.document] * copies)  # warms the tokenizer's threads too
    (kv,) = engine.prefill_prefixes([prefix.ids])
    engine.score_documents([DocumentWork(kv, document.ids) for document in documents])
