"""Explanations under way, as the engine thread sees them: token ids, KV, whose turn it is.

    admit -> [prefill, where no KV of the pair is held] -> decode steps -> the last tokens -> gone

Continuous batching: a decode step takes the stream that has waited longest and others with it (`grouping`), each at
its own length; streams join and leave between any two steps. The grammar's forced runs go through the model together
with the token before them, and the forced end of an explanation never does: it is known.

A stream holds its pair's KV (a pin in the KVStore) and its answer's, from `admit` until `leave`, which happens exactly
once, in whatever way it ends. All but the steps' `run` happens under the batcher's lock.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.base import AnswerKV, AnswerWork, DocumentWork, Engine, PrefixKV, PromptKV
from engine.prefix_cache import PrefixCache
from service.errors import ServiceError, TooManyExplanationsError
from service.explaining.events import ExplainingFigures
from service.explaining.grouping import IN_ONE_ROW, StepLimits, choose_streams
from service.explaining.keeping import choose_kept
from service.explaining.kv_store import KVStore
from service.explaining.stream import Stream
from service.explaining.turns import Turns
from service.side_work import Chosen, EngineStep
from service.work import WaitingDocument


@dataclass(slots=True, eq=False)
class Streams:
    """All of one model; the batcher's SideWork."""

    max_streams: int
    store: KVStore
    prefixes: PrefixCache
    turns: Turns
    clock: Callable[[], float]
    limits: StepLimits = IN_ONE_ROW
    figures: ExplainingFigures = field(default_factory=ExplainingFigures)
    _waiting: deque[Stream] = field(default_factory=deque)
    """Streams in the order of their turns; those of the running step are in it too."""
    _members: set[Stream] = field(default_factory=set)
    _num_steps: int = 0

    def __len__(self) -> int:
        return len(self._members)

    def has(self, stream: Stream) -> bool:
        """Whether it is still under way."""
        return stream in self._members

    @property
    def answer_bytes(self) -> int:
        """Memory held by what answers have said, beside the store."""
        return sum(stream.answer.num_bytes for stream in self._members if stream.answer is not None)

    def admit(self, stream: Stream) -> None:
        """Let a stream in, with the KV of its pair if that is held.

        Raises:
            TooManyExplanationsError: as many as may be are under way.
        """
        if len(self._members) >= self.max_streams:
            self.figures.refused += 1
            raise TooManyExplanationsError(f"{len(self._members)} explanations are under way, as many as may be")
        kv = self.store.take(stream.prompt)
        if kv is not None:
            self._resume(stream, kv)
        stream.admitted_at = self.clock()
        self.figures.admitted += 1
        self._members.add(stream)
        self._waiting.append(stream)

    def _resume(self, stream: Stream, kv: PromptKV) -> None:
        stream.answer = AnswerKV(kv)
        stream.resumed = True
        stream.num_cached_tokens = len(stream.prompt.prefix_ids) + len(stream.prompt.document_ids)
        self.figures.resumed += 1

    def leave(self, stream: Stream) -> bool:
        """Let go of a stream and of all it holds; False if that has happened before."""
        if stream not in self._members:
            return False
        self._members.remove(stream)
        self._waiting.remove(stream)
        if stream.answer is not None:
            self.store.release(stream.prompt)
            stream.answer = None
        return True

    def next_step(self, scores_wait: bool) -> EngineStep | None:
        """The next prefill or decode step, if it is the explanations' turn."""
        if not self._waiting or not self.turns.is_steps_turn(scores_wait):
            return None
        first = self._waiting[0]
        if first.answer is None:
            kv = self.store.take(first.prompt)  # another explanation of the pair may have had it computed
            if kv is None:
                return PrefillStep(self, first, self.prefixes.get(first.prompt.prefix_ids), scores_wait)
            self._resume(first, kv)
        return DecodeStep(self, self._next_streams(), scores_wait)

    def _next_streams(self) -> list[Stream]:
        self._num_steps += 1
        chosen = choose_streams(self._waiting, self.limits)
        for stream in chosen:
            stream.last_step = self._num_steps
        return chosen

    def move_back(self, streams: Sequence[Stream]) -> None:
        """Streams that had their turn, those that are still here, go to the end."""
        for stream in streams:
            if stream in self._members:
                self._waiting.remove(stream)
                self._waiting.append(stream)

    def fail(self, streams: Sequence[Stream], error: ServiceError) -> None:
        """End streams with an error."""
        for stream in streams:
            if self.leave(stream):
                self.figures.failed += 1
                stream.listener.tell((), False, error)

    def end(self, error: ServiceError) -> None:
        """The engine is gone: so is every stream."""
        self.fail(list(self._members), error)

    def has_scored(self, seconds: float) -> None:
        """The engine spent `seconds` on scores."""
        self.turns.has_scored(seconds)

    def wants_kv(self, document: WaitingDocument) -> bool:
        """Whether a request that waits for it says that somebody may ask why, and there is a place for it."""
        return self.store.is_on and any(work.terms.keeps_kv for work in document.waiters)

    def choose(
        self, documents: Sequence[WaitingDocument], label_logits: NDArray[np.float32], kept: Sequence[PromptKV | None]
    ) -> Chosen:
        """What of a pack to keep: see `service.explaining.keeping`."""
        return choose_kept(documents, label_logits, kept)

    def keep(self, chosen: Chosen) -> None:
        """Put what was chosen into the store."""
        for prompt, kv in chosen.added:
            self.store.put(prompt, kv)
            self.figures.kept_pairs += 1
        for prompt in chosen.dropped:
            self.store.drop(prompt)


class PrefillStep:
    """The pair of one stream, computed once more."""

    def __init__(self, streams: Streams, stream: Stream, prefix: PrefixKV | None, scores_waited: bool) -> None:
        self._streams, self._stream, self._prefix = streams, stream, prefix
        self._scores_waited = scores_waited
        self._computed_prefix = prefix is None
        self._began = streams.clock()

    def run(self, engine: Engine) -> None:
        """Prefix, unless it is held, and document."""
        prompt = self._stream.prompt
        if self._prefix is None:
            (self._prefix,) = engine.prefill_prefixes([prompt.prefix_ids])
        _, (kept,) = engine.keep_documents([DocumentWork(self._prefix, prompt.document_ids, keeps_kv=True)])
        if kept is None:
            raise ValueError("the engine kept nothing of a pair that was to be kept")
        self._kv = kept.copy()

    def finish(self, seconds: float) -> None:
        """Give it to the stream, if that is still there."""
        streams, stream = self._streams, self._stream
        streams.turns.has_stepped(seconds, self._scores_waited)
        if self._computed_prefix:
            streams.prefixes.put(stream.prompt.prefix_ids, self._kv.prefix)
        if streams.has(stream):
            streams.store.hold(stream.prompt, self._kv)
            stream.answer = AnswerKV(self._kv)
            stream.started_at = self._began
            stream.num_cached_tokens = 0 if self._computed_prefix else len(stream.prompt.prefix_ids)
            streams.figures.prefilled += 1

    def fail(self, error: ServiceError) -> None:
        """The stream ends."""
        self._streams.fail([self._stream], error)


class DecodeStep:
    """One more token, and what it forces, for each of several streams."""

    def __init__(self, streams: Streams, chosen: Sequence[Stream], scores_waited: bool) -> None:
        self._streams, self._chosen = streams, chosen
        self._scores_waited = scores_waited
        self._work = [
            AnswerWork(one.answer, one.path.next_ids, one.path.allowed) for one in chosen if one.answer is not None
        ]
        self._said: list[list[int]] = []
        self._began = streams.clock()

    def run(self, engine: Engine) -> None:
        """Compute what is to be said next, and choose."""
        logits = engine.extend_answers(self._work)
        if len(logits) != len(self._work) or not np.isfinite(np.concatenate(logits)).all():
            raise ValueError(f"{len(logits)} rows of logits for {len(self._work)} answers, or not all are finite")
        self._said = [stream.path.go_on(row) for stream, row in zip(self._chosen, logits, strict=True)]

    def finish(self, seconds: float) -> None:
        """Tell those who listen; whose explanation has ended leaves."""
        streams, now = self._streams, self._streams.clock()
        streams.turns.has_stepped(seconds, self._scores_waited)
        streams.figures.decode_steps += 1
        streams.figures.decode_seconds += seconds
        for stream, tokens in zip(self._chosen, self._said, strict=True):
            if not streams.has(stream):
                continue
            streams.figures.tokens += len(tokens)
            stream.num_steps += 1
            if math.isnan(stream.started_at):
                stream.started_at = self._began
            if math.isnan(stream.first_at):
                stream.first_at = now
            error = stream.path.error
            if stream.path.is_done or error is not None:
                streams.leave(stream)
                streams.figures.finished += error is None
                streams.figures.cut += error is not None
            stream.listener.tell(tokens, stream.path.is_done, error)
        streams.move_back(self._chosen)

    def fail(self, error: ServiceError) -> None:
        """Its streams end."""
        self._streams.fail(self._chosen, error)
