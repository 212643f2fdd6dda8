"""Grades in, their explanations out: the life of one explanation between the wire and the engine.

    request -> tokenise and set up the grammar, in a thread -> admit -> Grade
            -> tokens, as the engine thread brings them -> Delta, Step -> Done

Text stops here: below are token ids. The prompt is tokenised just as `/score` does it, so what was kept of the scored
pair is found by its ids. A pair so long that no positions are left for an answer is read once more with its document
cut shorter; its grade stays the one that was given.

The iterator owns its stream: however it ends, finished, closed, cancelled or failed, the stream leaves with it.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

from relevance.artifact import Artifact
from relevance.errors import PromptError, TokenizerError
from relevance.grammar import AnswerGrammar, PairGrammar
from relevance.own_text import OwnText
from relevance.prompt import End
from service.batcher import Batcher
from service.errors import (
    CannotExplainError,
    DeadlineExceededError,
    FieldError,
    InvalidFieldsError,
    ServiceError,
)
from service.explaining.choice import AnswerPath
from service.explaining.events import (
    Done,
    Event,
    ExplainingFigures,
    ExplanationRequest,
    ExplanationTiming,
    ExplanationUsage,
    Grade,
)
from service.explaining.stream import Stream
from service.explaining.streams import Streams
from service.explaining.writer import ExplanationWriter, Sources
from service.tokenise import tokenise
from service.work import Prompt

_Result = TypeVar("_Result")

ANSWER_POSITIONS = 160
"""Positions that a pair leaves for its answer, where the model has any: nearly all explanations are shorter."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """An explanation about to begin."""

    prompt: Prompt
    grammar: PairGrammar
    sources: Sources
    max_tokens: int
    """Behind the grade."""


class _Mailbox:
    """Tokens on their way from the engine thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._letters: asyncio.Queue[tuple[Sequence[int], bool, ServiceError | None]] = asyncio.Queue()

    def tell(self, tokens: Sequence[int], is_last: bool, error: ServiceError | None) -> None:
        """Called in the engine thread; whoever has gone with its loop is not told."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._letters.put_nowait, (tokens, is_last, error))

    async def next(self) -> tuple[Sequence[int], bool, ServiceError | None]:
        """The next letter."""
        return await self._letters.get()


class Explainer:
    """Explains grades of one artifact."""

    def __init__(
        self, artifact: Artifact, batcher: Batcher, streams: Streams, executor: Executor, clock: Callable[[], float]
    ) -> None:
        """`streams` is the batcher's side work."""
        manifest = artifact.manifest
        self._spec, self._graph, self._tokenizer = manifest.spec, manifest.graph, artifact.tokenizer
        self._labels = manifest.label_token_ids
        self._encoder = self._spec.encoder(artifact.tokenizer)
        self._batcher, self._streams = batcher, streams
        self._executor, self._clock = executor, clock
        self._grammar: AnswerGrammar | None = None
        try:
            self._grammar = AnswerGrammar(artifact.tokenizer, self._spec.scale)
        except TokenizerError as error:
            self._why_not = str(error)

    @property
    def figures(self) -> ExplainingFigures:
        """What has become of explanations so far."""
        return self._streams.figures

    @property
    def num_streams(self) -> int:
        """Explanations under way."""
        return len(self._streams)

    @property
    def answer_bytes(self) -> int:
        """Memory held by the KV of answers under way."""
        with self._batcher.lock():
            return self._streams.answer_bytes

    @property
    def store_bytes(self) -> int:
        """Memory held by the KV of pairs: kept after scoring, or needed by explanations under way."""
        return self._streams.store.num_bytes

    @property
    def num_held_pairs(self) -> int:
        """Holds of explanations under way on pairs' KV: 0 when there are none."""
        return self._streams.store.num_pins

    async def explain(self, request: ExplanationRequest) -> AsyncGenerator[Event, None]:
        """As `service.explaining.events.Explains` says."""
        if not 0 <= request.grade < self._spec.scale.num_grades:
            raise InvalidFieldsError([FieldError("grade", f"must be 0 to {self._spec.scale.num_grades - 1}")])
        plan = await self._until(request, self._set_up(request))
        path = AnswerPath(plan.grammar, self._labels[request.grade], request.sampling, plan.max_tokens)
        mailbox = _Mailbox()
        stream = Stream(plan.prompt, path, mailbox)
        with self._batcher.lock():
            self._batcher.check_running()
            self._streams.admit(stream)
        has_expired = is_last = False
        writer = ExplanationWriter(self._tokenizer, self._spec.scale, plan.sources)
        try:
            yield Grade(request.grade, self._spec.scale.names[request.grade])
            while not is_last:
                tokens, is_last, error = await self._until(request, mailbox.next())
                for event in writer.write(tokens):
                    yield event
                if error is not None:
                    raise error.copy()
            if not writer.is_complete:
                raise CannotExplainError("what the model's tokens say does not read as an explanation")
            yield self._done(stream)
        except DeadlineExceededError:
            has_expired = True
            raise
        finally:
            with self._batcher.lock():
                if self._streams.leave(stream):
                    self.figures.expired += has_expired
                    self.figures.cancelled += not has_expired

    async def _set_up(self, request: ExplanationRequest) -> _Plan:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._plan, request)

    async def _until(self, request: ExplanationRequest, wanted: Awaitable[_Result]) -> _Result:
        """What is waited for, unless the deadline comes first."""
        left = None if request.deadline == math.inf else request.deadline - self._clock()
        try:
            return await asyncio.wait_for(wanted, left)
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the explanation had ended") from None

    def _done(self, stream: Stream) -> Done:
        path, now = stream.path, self._clock()
        return Done(
            usage=ExplanationUsage(
                prompt_tokens=len(stream.prompt.prefix_ids) + len(stream.prompt.document_ids),
                cached_tokens=stream.num_cached_tokens,
                completion_tokens=path.num_tokens,
                forced_tokens=path.num_tokens - path.num_chosen,
                decode_steps=stream.num_steps,
            ),
            timing=ExplanationTiming(
                queue_s=stream.started_at - stream.admitted_at,
                first_token_s=stream.first_at - stream.admitted_at,
                total_s=now - stream.admitted_at,
            ),
            resumed=stream.resumed,
        )

    def _plan(self, request: ExplanationRequest) -> _Plan:
        """Runs in a thread."""
        if self._grammar is None:
            raise CannotExplainError(self._why_not)
        try:
            found = self._tokenise(request, request.cut.max_document_tokens)
            if self._num_left(found[0]) < ANSWER_POSITIONS:
                found = self._tokenise(request, self._longest_document(found[0]))
        except PromptError as error:
            raise InvalidFieldsError([FieldError(error.field, str(error))]) from error
        prompt, kept = found
        asked = request.sampling.max_tokens
        num_left = self._num_left(prompt)
        if num_left < 1:
            raise CannotExplainError("the pair leaves no positions for an answer")
        own = self._encoder.document_ids(prompt.document_ids)
        grammar = self._grammar.for_pair(request.pair.query, request.pair.document, own, request.grade, kept)
        sources = Sources(OwnText(request.pair.query), OwnText(request.pair.document))
        return _Plan(prompt, grammar, sources, num_left if asked is None else min(asked, num_left))

    def _tokenise(self, request: ExplanationRequest, max_document_tokens: int | None) -> tuple[Prompt, End | None]:
        cut = replace(request.cut, max_document_tokens=max_document_tokens)
        found = tokenise(self._encoder, [request.pair], cut)
        return found.prompts[0], cut.keep if found.truncated[0] else None

    def _num_left(self, prompt: Prompt) -> int:
        """Positions behind the grade token."""
        before = 0 if self._spec.attention == "late" else len(prompt.prefix_ids)
        return self._graph.max_positions - before - len(prompt.document_ids) - 1

    def _longest_document(self, prompt: Prompt) -> int:
        """Tokens of the document that leave its answer room."""
        own = len(self._encoder.document_ids(prompt.document_ids))
        return max(1, own - (ANSWER_POSITIONS - self._num_left(prompt)))
