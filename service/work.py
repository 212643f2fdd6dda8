"""What moves between the parts of the service: plain data, no behaviour beyond derived figures.

Terms            when a request must be answered, how much it matters, and whether part of an answer will do
ScoreWork        one admitted request: its distinct prompts, and the label logits as they arrive
SharedPrefix     one distinct prefix that waiting documents need; shared by all requests that have it
WaitingDocument  one distinct prompt and the requests that wait for it
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
class Terms:
    """What a request asks of the queue."""

    deadline: float = math.inf
    """Until when its answer is of use, in seconds of the injected clock."""
    priority: int = 0
    """0 is served before 1."""
    is_partial: bool = False
    """The documents scored by the deadline are an answer."""
    keeps_kv: bool = False
    """Somebody may ask why: the KV of its pairs is worth keeping, as far as there is room (`service.explaining`)."""


NO_TERMS = Terms()


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
    """One request, admitted whole and resolved exactly once: scored, expired, failed or cancelled."""

    prompts: Sequence[Prompt]
    terms: Terms = NO_TERMS
    timings: Timings = field(default_factory=Timings)
    num_cached_tokens: int = 0
    """Prefix tokens that another request had computed before."""
    shared: list[int] = field(default_factory=list)
    """Prompts that another request was already waiting for."""
    num_scored: int = 0
    kept: list[tuple[float, Prompt]] = field(default_factory=list)
    """Of its pairs whose KV is kept, what their score is worth beside the others'; the engine thread's."""
    rows: list[NDArray[np.float32] | None] = field(init=False)
    """Label logits [K] of each prompt; None before it is scored."""

    def __post_init__(self) -> None:
        self.rows = [None] * len(self.prompts)

    @property
    def is_scored(self) -> bool:
        """Whether every prompt has its label logits."""
        return self.num_scored == len(self.prompts)

    @property
    def num_shared(self) -> int:
        """Scored prompts that another request was already waiting for."""
        return sum(self.rows[index] is not None for index in self.shared)

    @property
    def num_computed_tokens(self) -> int:
        """Tokens that the engine computed for this request and no other, of what was scored."""
        scored = [prompt for prompt, row in zip(self.prompts, self.rows, strict=True) if row is not None]
        prefixes = {prompt.prefix_ids for prompt in scored}
        total = sum(map(len, prefixes)) + sum(len(prompt.document_ids) for prompt in scored)
        shared = sum(len(self.prompts[index].document_ids) for index in self.shared if self.rows[index] is not None)
        return total - self.num_cached_tokens - shared

    @property
    def has_started(self) -> bool:
        """Whether the engine has taken any of it."""
        return not math.isnan(self.timings.started_at)

    @property
    def label_logits(self) -> NDArray[np.float32]:
        """Label logits [N, K], one row per prompt; all of them must have been set."""
        return np.stack([row for row in self.rows if row is not None])

    def set_label_logits(self, index: int, row: NDArray[np.float32]) -> None:
        """Label logits [K] of prompt `index`."""
        if self.rows[index] is not None:
            raise RuntimeError(f"prompt {index} was scored twice")
        self.rows[index] = row
        self.num_scored += 1


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A distinct prefix; `kv` is None until it is prefilled."""

    ids: TokenIds
    kv: PrefixKV | None = None
    num_waiting: int = 0
    """Documents that wait behind it; at 0 the scheduler lets go of it."""


@dataclass(slots=True, eq=False)
class WaitingDocument:
    """One distinct prompt, and where each request that waits for it has it."""

    prefix: SharedPrefix
    ids: TokenIds
    waiters: dict[ScoreWork, list[int]]
    owner: ScoreWork
    """The most urgent of them: it is in the queue at that one's place."""
    is_taken: bool = False
    """It was handed to the engine, or nobody waits for it any more."""

    @property
    def prompt(self) -> Prompt:
        """The pair it is."""
        return Prompt(self.prefix.ids, self.ids)

    def to_engine(self, keeps_kv: bool = False) -> DocumentWork:
        """What the engine is given; the prefix must have been prefilled."""
        if self.prefix.kv is None:
            raise RuntimeError("a document was handed over before its prefix")
        return DocumentWork(self.prefix.kv, self.ids, keeps_kv)


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
