"""What a peer is: something that is given the text of one query's documents and answers with label logits.

Everybody tokenises within the measured time and gets nothing prepared: no cached prefix, no encoded document. A peer
whose library or file is missing raises `PeerMissing`, and the reason is printed and kept in the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class PeerMissing(RuntimeError):
    """This peer cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a peer gives back."""

    logits: NDArray[np.float32]
    """Label logits [D, K], one row a document, in the order given."""
    computed_tokens: int
    """Tokens the model was run over, padding and repeated prefixes included."""


class Peer(Protocol):
    """One engine with one model loaded."""

    def score(self, query: str, documents: Sequence[str]) -> Scored:
        """Score the documents of one query, from text."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """Where a peer's model lies; a peer takes what it needs."""

    checkpoint: Path
    artifact: Path
    work: Path
    """Folder of what was made from the checkpoint: plain graphs, a GGUF file, a cross-encoder."""
    spec: str | None = None
    """A preset's name where the checkpoint carries no scoring spec."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run one library."""

    name: str
    """As it stands in the table."""
    module: str
    """Module of this package whose `open_peer(files, setting, threads, batch_tokens)` loads it."""
    precision: str
    """fp32, bf16, int8 or q8_0."""
    bytes_per_weight: float
    """What it holds for each weight, roughly: what decides whose rounds fit into memory together."""
    libraries: tuple[str, ...] = field(default=())
    """Distributions whose versions belong to the result."""
    same_weights: bool = True
    """False: a stock model of the same size, whose grades are not compared."""
