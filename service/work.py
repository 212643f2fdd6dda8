"""What moves between the parts of the service: plain data, no behaviour beyond derived figures.

ScoreWork        one admitted request: its distinct prompts, and the label logits as they arrive
SharedPrefix     one distinct prefix that waiting documents need; shared by all requests that have it
WaitingDocument  one prompt of one ScoreWork, waiting for its turn
PrefixBatch      what one engine call prefills
DocumentBatch    what one engine call scores
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.base import DocumentWork, PrefixKV

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One distinct pair, tokenised: its prefix segment and its document segment."""

    prefix_ids: TokenIds
    document_ids: TokenIds


@dataclass(slots=True)
class Timings:
    """When things happened to one ScoreWork, in seconds of the injected clock; NaN before they did."""

    admitted_at: float = math.nan
    started_at: float = math.nan
    """When the engine took its first prefix or document."""
    finished_at: float = math.nan

    @property
    def queue_s(self) -> float:
        """From admission to the engine."""
        return self.started_at - self.admitted_at

    @property
    def infer_s(self) -> float:
        """From its first batch to the end of its last; batches of others may lie between."""
        return self.finished_at - self.started_at


@dataclass(slots=True, eq=False)
class ScoreWork:
    """One request, admitted whole and resolved exactly once: scored, failed or cancelled."""

    prompts: Sequence[Prompt]
    timings: Timings = field(default_factory=Timings)
    num_cached_tokens: int = 0
    """Prefix tokens that another request had computed before."""
    num_scored: int = 0
    _rows: list[NDArray[np.float32] | None] = field(init=False)

    def __post_init__(self) -> None:
        self._rows = [None] * len(self.prompts)

    @property
    def is_scored(self) -> bool:
        """Whether every prompt has its label logits."""
        return self.num_scored == len(self.prompts)

    @property
    def label_logits(self) -> NDArray[np.float32]:
        """Label logits [N, K], one row per prompt; all of them must have been set."""
        return np.stack([row for row in self._rows if row is not None])

    def set_label_logits(self, index: int, row: NDArray[np.float32]) -> None:
        """Label logits [K] of prompt `index`."""
        if self._rows[index] is not None:
            raise RuntimeError(f"prompt {index} was scored twice")
        self._rows[index] = row
        self.num_scored += 1


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A distinct prefix; `kv` is None until it is prefilled."""

    ids: TokenIds
    kv: PrefixKV | None = None
    num_waiting: int = 0
    """Documents that wait behind it; at 0 the scheduler lets go of it."""


@dataclass(frozen=True, slots=True, eq=False)
class WaitingDocument:
    """Prompt `index` of `work`."""

    work: ScoreWork
    index: int
    prefix: SharedPrefix
    ids: TokenIds

    def to_engine(self) -> DocumentWork:
        """What the engine is given; the prefix must have been prefilled."""
        if self.prefix.kv is None:
            raise RuntimeError("a document was handed over before its prefix")
        return DocumentWork(self.prefix.kv, self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class PrefixBatch:
    """Prefixes to prefill in one engine call."""

    prefixes: tuple[SharedPrefix, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens prefilled."""
        return sum(len(prefix.ids) for prefix in self.prefixes)


@dataclass(frozen=True, slots=True, eq=False)
class DocumentBatch:
    """Documents to score in one engine call, all of them behind prefixes that are there."""

    documents: tuple[WaitingDocument, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of documents scored."""
        return sum(len(document.ids) for document in self.documents)


Batch = PrefixBatch | DocumentBatch
