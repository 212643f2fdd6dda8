"""Scoring in process, without a server: what the gate, the evaluation and the benchmarks run.

    scorer = LocalScorer.open(Path("artifacts/default"))
    scorer.distributions([Pair("usb c cable", "USB-C to USB-C 1 m")])      # [N, K]

The service runs the same prompt encoder, packing and engine, so both give a pair the same numbers: to the bit for a
request that has the engine to itself, since then even the packs are the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.base import DocumentWork, Engine
from engine.ort import OrtEngine
from engine.packing import DEFAULT_PACK_TOKENS, plan_packs
from relevance.artifact import Artifact, load_artifact
from relevance.errors import ArtifactError
from relevance.pair import Pair
from relevance.scoring import FloatArray, grade_distribution


class LocalScorer:
    """Scores lists of pairs with one engine, in the calling thread."""

    def __init__(self, artifact: Artifact, engine: Engine, pack_tokens: int = DEFAULT_PACK_TOKENS) -> None:
        self.artifact = artifact
        self._engine = engine
        self._pack_tokens = pack_tokens
        self._encoder = artifact.manifest.spec.encoder(artifact.tokenizer)

    @classmethod
    def open(cls, folder: Path, *, num_threads: int | None = None, pack_tokens: int = DEFAULT_PACK_TOKENS) -> Self:
        """Verify and load an artifact folder."""
        artifact = load_artifact(folder)
        return cls(artifact, OrtEngine(artifact, num_threads=num_threads), pack_tokens)

    def label_logits(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Label logits [N, K] in the order of `pairs`, one query after the other; equal pairs are computed once."""
        distinct = {pair: index for index, pair in enumerate(dict.fromkeys(pairs))}
        by_query: dict[tuple[str, str | None], list[Pair]] = {}
        for pair in distinct:
            by_query.setdefault((pair.query, pair.instruction), []).append(pair)
        logits = np.zeros((len(distinct), self.artifact.manifest.spec.scale.num_grades), dtype=np.float32)
        for (query, instruction), group in by_query.items():
            scored = self._score_query(query, instruction, [pair.document for pair in group])
            logits[[distinct[pair] for pair in group]] = scored
        return logits[[distinct[pair] for pair in pairs]]

    def _score_query(self, query: str, instruction: str | None, documents: Sequence[str]) -> NDArray[np.float32]:
        """Label logits [N, K] of one query's documents, in the packs a lone request gets from the service."""
        prefix = self._encoder.encode_prefix(query, instruction)
        encoded = self._encoder.encode_documents(prefix, documents)
        (kv,) = self._engine.prefill_prefixes([prefix.ids])
        work = [DocumentWork(kv, document.ids) for document in encoded]
        packs = plan_packs([len(document.ids) for document in encoded], self._pack_tokens)
        return np.concatenate([self._engine.score_documents([work[i] for i in pack]) for pack in packs])

    def distributions(self, pairs: Sequence[Pair]) -> FloatArray:
        """Calibrated grade distributions [N, K] in the order of `pairs`."""
        return grade_distribution(self.label_logits(pairs), self.artifact.manifest.spec.temperature)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def self_test(artifact: Artifact, engine: Engine) -> float:
    """Score the manifest's golden pairs; the largest difference of a probability from what they should be.

    Raises:
        ArtifactError: a difference beyond `golden_tolerance`: this machine does not compute what was published.
    """
    golden = artifact.manifest.golden_pairs
    pairs = [Pair(pair.query, pair.document, pair.instruction) for pair in golden]
    found = LocalScorer(artifact, engine).distributions(pairs)
    differences = np.abs(found - np.array([pair.distribution for pair in golden])).max(axis=1)
    worst = int(np.argmax(differences))
    if not differences[worst] <= artifact.manifest.golden_tolerance:
        raise ArtifactError(
            f"self-test failed: golden pair {golden[worst].query!r} gives {np.round(found[worst], 4).tolist()}, "
            f"published {list(golden[worst].distribution)} (tolerance {artifact.manifest.golden_tolerance})"
        )
    return float(differences[worst])
