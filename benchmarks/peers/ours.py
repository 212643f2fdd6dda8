"""Ours in process: the artifact in the engine, prefix once and documents packed, as a lone request is served."""

from collections.abc import Sequence

from benchmarks.peers.peer import Files, Peer, Scored, Setting
from engine.local import LocalScorer
from relevance.artifact import Artifact
from relevance.pair import Pair


class OurPeer:
    """The engine without HTTP."""

    def __init__(self, scorer: LocalScorer) -> None:
        self._scorer = scorer

    def score(self, query: str, documents: Sequence[str]) -> Scored:
        """Tokenise, prefill the prefix, run the packs."""
        logits = self._scorer.label_logits([Pair(query, document) for document in documents])
        return Scored(logits, 0)


def count_tokens(artifact: Artifact, query: str, documents: Sequence[str]) -> int:
    """Tokens of a request when its prefix is taken once: what there is to read, whoever reads it."""
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    prefix = encoder.encode_prefix(query)
    return len(prefix.ids) + sum(len(one.ids) for one in encoder.encode_documents(prefix, documents))


def prepare(files: Files, setting: Setting) -> None:
    """Nothing: the artifact is there."""


def open_peer(files: Files, setting: Setting, threads: int, batch_tokens: int) -> Peer:  # noqa: ARG001
    """Load the artifact."""
    return OurPeer(LocalScorer.open(files.artifact, num_threads=threads))
