"""Scoring in process, without a server: what the gate, the evaluation and the benchmarks run.

    scorer = LocalScorer.open(Path("artifacts/default"))
    scorer.distributions([Pair("usb c cable", "USB-C to USB-C 1 m")])      # [N, K]

The service runs the same prompt encoder, packing and engine, so both give a pair the same numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engine.base import DocumentWork, Engine
from engine.ort import OrtEngine
from engine.packing import plan_packs
from relevance.artifact import Artifact, load_artifact
from relevance.errors import ArtifactError
from relevance.pair import Pair
from relevance.scoring import FloatArray, grade_distribution

DEFAULT_PACK_TOKENS = 256


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
        """Label logits [N, K] in the order of `pairs`; each distinct query is prefilled once."""
        by_prefix: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for (query, instruction), indices in _group(pairs).items():
            prefix = self._encoder.encode_prefix(query, instruction)
            documents = self._encoder.encode_documents(prefix, [pairs[i].document for i in indices])
            work = by_prefix.setdefault(prefix.ids, [])
            work += [(index, document.ids) for index, document in zip(indices, documents, strict=True)]
        logits = np.zeros((len(pairs), self.artifact.manifest.spec.scale.num_grades), dtype=np.float32)
        prefixes = list(by_prefix)
        for pack in plan_packs([len(ids) for ids in prefixes], self._pack_tokens):  # bounds the KV held at once
            group = [prefixes[i] for i in pack]
            held = zip(group, self._engine.prefill_prefixes(group), strict=True)
            rows = [(i, DocumentWork(kv, document)) for ids, kv in held for i, document in by_prefix[ids]]
            self._score_into(logits, rows)
        return logits

    def _score_into(self, logits: NDArray[np.float32], rows: Sequence[tuple[int, DocumentWork]]) -> None:
        for pack in plan_packs([len(work.ids) for _, work in rows], self._pack_tokens):
            logits[[rows[i][0] for i in pack]] = self._engine.score_documents([rows[i][1] for i in pack])

    def distributions(self, pairs: Sequence[Pair]) -> FloatArray:
        """Calibrated grade distributions [N, K] in the order of `pairs`."""
        return grade_distribution(self.label_logits(pairs), self.artifact.manifest.spec.temperature)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def _group(pairs: Sequence[Pair]) -> dict[tuple[str, str | None], list[int]]:
    groups: dict[tuple[str, str | None], list[int]] = {}
    for index, pair in enumerate(pairs):
        groups.setdefault((pair.query, pair.instruction), []).append(index)
    return groups


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
