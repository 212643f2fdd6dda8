"""The prompts of one query as a peer without packing takes them: whole, sorted by length, padded on the right.

    [prefix | document | suffix | padding]     B rows of the longest of them; the grade is read at each row's last token

Rows of like length stand together, so padding is little, and a batch holds at most `batch_tokens` padded tokens (but
one row at least). Under causal attention padding on the right needs no mask: nothing looks ahead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import Scored
from relevance.prompt import PromptEncoder
from relevance.spec import SPEC_FILE, ScoringSpec
from relevance.tokenization import JsonTokenizer

# As `modeling.forward` numbers them, which is not imported: it would bring torch into the processes of other libraries.
PREFIX, DOCUMENT, SUFFIX, PADDING = 0, 1, 2, -1

Integers = NDArray[np.int64]
Run = Callable[[Integers, Integers, Integers], NDArray[np.float32]]
"""Label logits [B, K] from token ids [B, L], segment ids [B, L] and the positions read [B]."""


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Some of the prompts."""

    ids: Integers
    segments: Integers
    last: Integers
    places: list[int]
    """Which document each row is of."""


def padded_batches(
    prefix: Sequence[int], documents: Sequence[Sequence[int]], num_suffix_tokens: int, batch_tokens: int
) -> list[PaddedBatch]:
    """Batches of all prompts, the shortest first."""
    order = sorted(range(len(documents)), key=lambda place: len(documents[place]))
    groups: list[list[int]] = []
    for place in order:
        length = len(prefix) + len(documents[place])
        if not groups or (len(groups[-1]) + 1) * length > batch_tokens:
            groups.append([])
        groups[-1].append(place)
    return [_batch(prefix, documents, num_suffix_tokens, group) for group in groups]


def _batch(
    prefix: Sequence[int], documents: Sequence[Sequence[int]], num_suffix_tokens: int, places: list[int]
) -> PaddedBatch:
    lengths = np.array([len(prefix) + len(documents[place]) for place in places], dtype=np.int64)
    ids = np.zeros((len(places), int(lengths.max())), dtype=np.int64)
    segments = np.full_like(ids, PADDING)
    for row, (place, length) in enumerate(zip(places, lengths, strict=True)):
        ids[row, :length] = [*prefix, *documents[place]]
        segments[row, : len(prefix)] = PREFIX
        segments[row, len(prefix) : length] = DOCUMENT
        segments[row, length - num_suffix_tokens : length] = SUFFIX
    return PaddedBatch(ids, segments, lengths - 1, places)


class PaddedPeer:
    """A peer that is a function of padded batches."""

    def __init__(self, run: Run, encoder: PromptEncoder, batch_tokens: int) -> None:
        self._run = run
        self._encoder = encoder
        self.batch_tokens = batch_tokens

    def score(self, query: str, documents: Sequence[str]) -> Scored:
        """Tokenise, pad, run."""
        prefix = self._encoder.encode_prefix(query)
        encoded = [document.ids for document in self._encoder.encode_documents(prefix, documents)]
        batches = padded_batches(prefix.ids, encoded, self._encoder.num_suffix_tokens, self.batch_tokens)
        found = [self._run(batch.ids, batch.segments, batch.last) for batch in batches]
        logits = np.empty((len(documents), found[0].shape[1]), dtype=np.float32)
        for batch, rows in zip(batches, found, strict=True):
            logits[batch.places] = rows
        return Scored(logits, sum(batch.ids.size for batch in batches))


def load_encoder(checkpoint: Path, spec: str | None) -> PromptEncoder:
    """The prompt encoder of a checkpoint, without its weights; `spec` is a preset for one that carries none."""
    own = checkpoint / SPEC_FILE
    chosen = ScoringSpec.from_file(own) if spec is None else ScoringSpec.preset(spec)
    return chosen.encoder(JsonTokenizer.from_file(checkpoint / "tokenizer.json"))
