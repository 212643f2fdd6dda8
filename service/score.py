"""Pairs in, grades out: the life of one request between the wire and the batcher.

    pairs -> distinct pairs -> score cache -> room in the queue -> tokenise -> submit -> calibrate
          -> one row per pair, in input order

Equal pairs of a request are computed once, and so is the prefix of every distinct query. What the score cache holds is
neither tokenised nor computed. Text stops here: below are token ids, above there are no tensors.

A request with a deadline ends by then, wherever it is. Tokenising leaves the event loop for a thread (the tokenizer
releases the GIL), except for a request so short that the two thread switches would cost more than the work itself.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from relevance.artifact import Artifact
from relevance.errors import PromptError
from relevance.grades import GradeScale
from relevance.pair import Pair
from relevance.scoring import FloatArray, IntArray, expected_score, grade_distribution, most_likely_grade
from service.batcher import Batcher
from service.errors import DeadlineExceededError, FieldError, InvalidFieldsError
from service.pair_cache import PairCache
from service.score_cache import Key, PairRecord
from service.tokenise import DEFAULT_CUT, Cut, TokenEstimate, TokenisedPairs, tokenise
from service.work import NO_TERMS, ScoreWork, Terms

# Below this many characters tokenising takes less than the way to a thread and back: see docs/tuning.md.
INLINE_CHARACTERS = 1_000
NOT_SCORED = -1


@dataclass(frozen=True, slots=True)
class PairScores:
    """What the model says of N pairs, in input order; one that was not scored in time has grade NOT_SCORED and NaN."""

    grades: IntArray  # [N]
    distribution: FloatArray  # [N, K]
    scores: FloatArray  # [N]
    truncated: Sequence[bool]
    num_tokens: Sequence[int]
    """Of the whole prompt; 0 where it was not scored."""

    @property
    def num_scored(self) -> int:
        """Pairs that have a grade."""
        return int(np.count_nonzero(self.grades != NOT_SCORED))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost."""

    prompt_tokens: int
    """Tokens of its distinct prefixes and of its distinct pairs' document segments."""
    cached_tokens: int
    """Those of them that were not computed for this request: held, or computed for another."""
    num_pairs: int
    num_distinct_pairs: int
    num_cached_pairs: int
    """Distinct pairs whose score was held, or was being computed for another request."""
    query_truncated: bool


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where the time went, in seconds, and when the engine was done."""

    tokenise_s: float
    queue_s: float
    infer_s: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class ScoredRequest:
    """The answer to one request, before it takes a wire format."""

    pairs: PairScores
    usage: Usage
    stages: StageTimes
    handles: Sequence[str | None] | None = None
    """Of each pair that has a grade, what names it at /explain; None where nobody asked for any."""


@dataclass(slots=True)
class _Request:
    """One request on its way: its distinct pairs and what is known of each."""

    pairs: Sequence[Pair]
    distinct: Sequence[Pair]
    records: list[PairRecord | None]
    """Of the distinct pairs; None for what is not known (yet)."""
    work: ScoreWork
    num_cached: int = 0
    tokenise_s: float = 0.0

    @property
    def missing(self) -> list[int]:
        return [index for index, record in enumerate(self.records) if record is None]


class Scorer:
    """Scores requests with one artifact."""

    def __init__(
        self,
        artifact: Artifact,
        batcher: Batcher,
        cache: PairCache,
        executor: Executor,
        clock: Callable[[], float],
    ) -> None:
        spec = artifact.manifest.spec
        self._encoder = spec.encoder(artifact.tokenizer)
        self._temperature = spec.temperature
        self._batcher = batcher
        self._cache = cache
        self._executor = executor
        self._clock = clock
        samples = [Pair(one.query, one.document, one.instruction) for one in artifact.manifest.golden_pairs]
        self._estimate = TokenEstimate(self._encoder, spec.limits.max_tokens, samples)
        self.scale: GradeScale = spec.scale

    async def score(self, pairs: Sequence[Pair], cut: Cut = DEFAULT_CUT, terms: Terms = NO_TERMS) -> ScoredRequest:
        """Score `pairs`, at least one.

        Raises:
            InvalidFieldsError: an instruction that does not fit the template, or a document too long where `cut`
                allows none.
            DeadlineExceededError: the deadline of `terms` passed, and they ask for no partial answer.
            ServiceError: what `Batcher.submit` raises.
        """
        distinct = list(dict.fromkeys(pairs))
        request = _Request(pairs, distinct, [None] * len(distinct), ScoreWork([], terms))
        keys = self._cache.keys(distinct, cut)
        try:
            if keys:
                async with self._until(terms.deadline):
                    request.records = await self._cache.get(keys, self.scale.num_grades)
                request.num_cached = len(distinct) - len(request.missing)
            if request.missing:
                await self._compute(request, keys, cut)
            elif not cut.is_allowed:
                _refuse_truncated(request, [])
        except TimeoutError:
            if not terms.is_partial:
                raise DeadlineExceededError("the deadline passed before the request was admitted") from None
        return self._answer(request)

    async def _compute(self, request: _Request, keys: Sequence[Key], cut: Cut) -> None:
        """Score what is missing; afterwards `records` has all that was scored in time."""
        missing, terms = request.missing, request.work.terms
        pairs = [request.distinct[index] for index in missing]
        started_at = self._clock()
        with self._batcher.reserved(self._estimate.tokens(pairs, cut), terms):
            tokenised = await self._tokenise(pairs, cut, terms.deadline)
        request.tokenise_s = self._clock() - started_at
        self._estimate.learn(pairs, tokenised)
        if not cut.is_allowed:
            _refuse_truncated(request, list(zip(missing, tokenised.truncated, tokenised.query_truncated, strict=True)))
        request.work = work = ScoreWork(tokenised.prompts, terms)
        try:
            await self._batcher.submit(work)
        finally:  # what was computed is kept, whatever becomes of the request
            records = _records_of(work, tokenised)
            if keys:
                self._cache.put((keys[index], one) for index, one in zip(missing, records, strict=True) if one)
        for index, record in zip(missing, records, strict=True):
            request.records[index] = record
        request.num_cached += work.num_shared
        self._cache.count(work.num_shared, work.num_scored - work.num_shared)

    async def _tokenise(self, pairs: Sequence[Pair], cut: Cut, deadline: float) -> TokenisedPairs:
        try:
            if sum(len(pair.document) + len(pair.query) for pair in pairs) <= INLINE_CHARACTERS:
                return tokenise(self._encoder, pairs, cut)
            loop = asyncio.get_running_loop()
            async with self._until(deadline):
                return await loop.run_in_executor(self._executor, tokenise, self._encoder, pairs, cut)
        except PromptError as error:
            raise InvalidFieldsError([FieldError(error.field, str(error))]) from error

    def _until(self, deadline: float) -> asyncio.Timeout:
        return asyncio.timeout(None if deadline == math.inf else deadline - self._clock())

    def _answer(self, request: _Request) -> ScoredRequest:
        timings = request.work.timings
        finished_at = self._clock() if math.isnan(timings.finished_at) else timings.finished_at
        return ScoredRequest(
            pairs=self._grade(request),
            usage=_count(request),
            stages=StageTimes(
                request.tokenise_s,
                0.0 if math.isnan(timings.queue_s) else timings.queue_s,
                0.0 if math.isnan(timings.infer_s) else timings.infer_s,
                finished_at,
            ),
        )

    def _grade(self, request: _Request) -> PairScores:
        """One row per pair, in input order.

        Computed per distinct pair and copied: BLAS promises nothing about the last bit of equal rows, and equal
        documents must tie.
        """
        place_of = {pair: place for place, pair in enumerate(request.distinct)}
        of_pair = [place_of[pair] for pair in request.pairs]
        scored = [place for place, record in enumerate(request.records) if record is not None]
        distribution = np.full((len(request.distinct), self.scale.num_grades), np.nan)
        grades = np.full(len(request.distinct), NOT_SCORED, dtype=np.int64)
        scores = np.full(len(request.distinct), np.nan)
        if scored:
            logits = np.stack([record.label_logits for record in request.records if record is not None])
            distribution[scored] = found = grade_distribution(logits, self._temperature)
            grades[scored], scores[scored] = most_likely_grade(found), expected_score(found)
        records = [request.records[place] for place in of_pair]
        return PairScores(
            grades=grades[of_pair],
            distribution=distribution[of_pair],
            scores=scores[of_pair],
            truncated=[one is not None and one.truncated for one in records],
            num_tokens=[0 if one is None else one.num_prefix_tokens + one.num_document_tokens for one in records],
        )


def _records_of(work: ScoreWork, tokenised: TokenisedPairs) -> list[PairRecord | None]:
    columns = zip(work.rows, tokenised.prompts, tokenised.truncated, tokenised.query_truncated, strict=True)
    return [
        None
        if row is None
        else PairRecord(row, len(prompt.prefix_ids), len(prompt.document_ids), truncated, query_truncated)
        for row, prompt, truncated, query_truncated in columns
    ]


def _refuse_truncated(request: _Request, tokenised: Sequence[tuple[int, bool, bool]]) -> None:
    """Raise if anything would be cut, naming the first document by its place in the request."""
    held = [(place, one.truncated, one.query_truncated) for place, one in enumerate(request.records) if one]
    found = sorted([*held, *tokenised])
    for place, truncated, _ in found:
        if truncated:
            index = request.pairs.index(request.distinct[place])
            message = f"is off, and document {index} is longer than the model takes"
            raise InvalidFieldsError([FieldError("truncate", message)])
    if any(query_truncated for _, _, query_truncated in found):
        raise InvalidFieldsError([FieldError("truncate", "is off, and the query is longer than the model takes")])


def _count(request: _Request) -> Usage:
    """What was scored, in tokens: the prefix of each distinct query once, each distinct document once."""
    prefixes: dict[tuple[str, str | None], int] = {}
    num_document_tokens = 0
    for pair, record in zip(request.distinct, request.records, strict=True):
        if record is not None:
            prefixes[pair.query, pair.instruction] = record.num_prefix_tokens
            num_document_tokens += record.num_document_tokens
    prompt_tokens = sum(prefixes.values()) + num_document_tokens
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=max(0, prompt_tokens - request.work.num_computed_tokens),
        num_pairs=len(request.pairs),
        num_distinct_pairs=len(request.distinct),
        num_cached_pairs=request.num_cached,
        query_truncated=any(record is not None and record.query_truncated for record in request.records),
    )
