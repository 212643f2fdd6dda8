"""Pairs in, grades out: the life of one request between the wire and the batcher.

    pairs -> distinct pairs -> tokenise -> submit -> calibrate -> one row per pair, in input order

Equal pairs of a request are computed once, and so is the prefix of every distinct query. Text stops here:
below are token ids, above there are no tensors.

Tokenising leaves the event loop for a thread (the tokenizer releases the GIL), except for a request so short
that the two thread switches would cost more than the work itself.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from relevance.errors import PromptError
from relevance.grades import GradeScale
from relevance.pair import Pair
from relevance.prompt import End, PromptEncoder
from relevance.scoring import FloatArray, IntArray, expected_score, grade_distribution, most_likely_grade
from relevance.spec import ScoringSpec
from relevance.tokenization import TextTokenizer
from service.batcher import Batcher
from service.errors import FieldError, InvalidFieldsError
from service.work import Prompt, ScoreWork

# Below this many characters tokenising takes less than the way to a thread and back: see docs/tuning.md.
INLINE_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes of a document that is too long."""

    max_document_tokens: int | None = None
    """Cut shorter than the model needs; None: to what the model takes."""
    keep: End = "start"
    """Which end of the document stays."""
    is_allowed: bool = True
    """False: a request with such a document is refused instead."""


@dataclass(frozen=True, slots=True)
class TokenisedPairs:
    """The distinct prompts of a request, and which of them each pair is."""

    prompts: Sequence[Prompt]
    truncated: Sequence[bool]
    """Per prompt, whether its document was cut."""
    query_truncated: bool
    """Whether any query was cut."""
    prompt_of_pair: Sequence[int]


DEFAULT_CUT = Cut()


@dataclass(frozen=True, slots=True)
class PairScores:
    """What the model says of N pairs, in input order."""

    grades: IntArray  # [N]
    distribution: FloatArray  # [N, K]
    scores: FloatArray  # [N]
    truncated: Sequence[bool]
    num_tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost."""

    prompt_tokens: int
    """Tokens of its distinct prefixes and of its distinct pairs' document segments."""
    cached_tokens: int
    """Those of them whose KV another request had computed."""
    num_pairs: int
    num_distinct_pairs: int
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


class Scorer:
    """Scores requests."""

    def __init__(
        self,
        spec: ScoringSpec,
        tokenizer: TextTokenizer,
        batcher: Batcher,
        executor: Executor,
        clock: Callable[[], float],
    ) -> None:
        self._encoder = spec.encoder(tokenizer)
        self._temperature = spec.temperature
        self._batcher = batcher
        self._executor = executor
        self._clock = clock
        self.scale: GradeScale = spec.scale

    async def score(self, pairs: Sequence[Pair], cut: Cut = DEFAULT_CUT) -> ScoredRequest:
        """Score `pairs`, at least one.

        Raises:
            InvalidFieldsError: an instruction that does not fit the template, or a document too long where `cut`
                allows none.
            ServiceError: what `Batcher.submit` raises.
        """
        started_at = self._clock()
        tokenised = await self._tokenise(pairs, cut)
        tokenise_s = self._clock() - started_at
        work = ScoreWork(tokenised.prompts)
        await self._batcher.submit(work)
        timings = work.timings
        return ScoredRequest(
            pairs=_grade(tokenised, grade_distribution(work.label_logits, self._temperature)),
            usage=_count(tokenised, work.num_cached_tokens),
            stages=StageTimes(tokenise_s, timings.queue_s, timings.infer_s, timings.finished_at),
        )

    async def _tokenise(self, pairs: Sequence[Pair], cut: Cut) -> TokenisedPairs:
        try:
            if sum(len(pair.document) + len(pair.query) for pair in pairs) <= INLINE_CHARACTERS:
                return tokenise(self._encoder, pairs, cut)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, tokenise, self._encoder, pairs, cut)
        except PromptError as error:
            raise InvalidFieldsError([FieldError(error.field, str(error))]) from error


def tokenise(encoder: PromptEncoder, pairs: Sequence[Pair], cut: Cut) -> TokenisedPairs:
    """Token ids of the distinct pairs; each distinct query is encoded once, its documents in one call.

    Raises:
        PromptError: an instruction that does not fit the template.
        InvalidFieldsError: a document is too long and `cut` allows none to be.
    """
    index_of = {pair: index for index, pair in enumerate(dict.fromkeys(pairs))}
    behind: dict[tuple[str, str | None], list[Pair]] = {}
    for pair in index_of:
        behind.setdefault((pair.query, pair.instruction), []).append(pair)
    prompts: dict[int, Prompt] = {}
    truncated: dict[int, bool] = {}
    query_truncated = False
    for (query, instruction), group in behind.items():
        prefix = encoder.encode_prefix(query, instruction)
        query_truncated |= prefix.query_truncated
        documents = encoder.encode_documents(
            prefix, [pair.document for pair in group], cut.max_document_tokens, cut.keep
        )
        for pair, document in zip(group, documents, strict=True):
            prompts[index_of[pair]] = Prompt(prefix.ids, document.ids)
            truncated[index_of[pair]] = document.truncated
    if not cut.is_allowed:
        _refuse_truncated([pair for pair, index in index_of.items() if truncated[index]], pairs, query_truncated)
    order = range(len(index_of))
    return TokenisedPairs(
        prompts=[prompts[index] for index in order],
        truncated=[truncated[index] for index in order],
        query_truncated=query_truncated,
        prompt_of_pair=[index_of[pair] for pair in pairs],
    )


def _refuse_truncated(truncated: Sequence[Pair], pairs: Sequence[Pair], query_truncated: bool) -> None:
    """Raise if anything would be cut, naming the first document by its place in the request."""
    if truncated:
        raise InvalidFieldsError(
            [FieldError("truncate", f"is off, and document {pairs.index(truncated[0])} is longer than the model takes")]
        )
    if query_truncated:
        raise InvalidFieldsError([FieldError("truncate", "is off, and the query is longer than the model takes")])


def _grade(tokenised: TokenisedPairs, distinct: FloatArray) -> PairScores:
    # Computed per distinct pair and copied: BLAS promises nothing about the last bit of equal rows, and equal
    # documents must tie.
    of_pair = tokenised.prompt_of_pair
    num_tokens = [len(prompt.prefix_ids) + len(prompt.document_ids) for prompt in tokenised.prompts]
    return PairScores(
        grades=most_likely_grade(distinct)[of_pair],
        distribution=distinct[of_pair],
        scores=expected_score(distinct)[of_pair],
        truncated=[tokenised.truncated[index] for index in of_pair],
        num_tokens=[num_tokens[index] for index in of_pair],
    )


def _count(tokenised: TokenisedPairs, cached_tokens: int) -> Usage:
    prefixes = {prompt.prefix_ids for prompt in tokenised.prompts}
    return Usage(
        prompt_tokens=sum(map(len, prefixes)) + sum(len(prompt.document_ids) for prompt in tokenised.prompts),
        cached_tokens=cached_tokens,
        num_pairs=len(tokenised.prompt_of_pair),
        num_distinct_pairs=len(tokenised.prompts),
        query_truncated=tokenised.query_truncated,
    )
