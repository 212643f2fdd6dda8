"""What asks for an explanation, and what comes of it: plain data.

An explanation is a sequence of events, always in this order:

    Grade                            at once: the grade that is explained, before anything is computed
    (Delta* Step) eight times        pieces of a step's text as they are decoded, then the finished step
    Done                             what it cost

or it ends, anywhere, by raising a ServiceError. The pieces of a step, joined, are what the model said; the value of a
finished step is as in `relevance.explanation.Explanation.to_json`, with what is copied from query or document as it
stands there: a quote is a part of the document, character by character. Nothing that was said is ever taken back.
"""

import math
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from relevance.pair import Pair
from service.tokenise import DEFAULT_CUT, Cut

StepValue = str | int | list[str]
"""Of `wants`; of a criterion or the verdict (the grade's index); of `evidence` or `missing`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens are chosen where the grammar leaves a choice."""

    max_tokens: int | None = None
    """Tokens behind the grade, at least 1; None: as many as the grammar allows (under 400). An explanation that would
    be longer raises ExplanationCutError; the steps finished before have been said and hold."""
    temperature: float = 0.0
    """0 takes the likeliest allowed token."""
    seed: int = 0
    """The same seed gives the same explanation; without effect at temperature 0."""


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class ExplanationRequest:
    """One explanation that is wanted."""

    pair: Pair
    grade: int
    """The index of the grade already given: the answer's first token is its label, forced, not computed anew."""
    cut: Cut = DEFAULT_CUT
    """As it was scored with."""
    sampling: Sampling = GREEDY
    deadline: float = math.inf
    """Until when it is of use, in seconds of the service's clock."""


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade that is explained."""

    grade: int
    name: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the text of the value of `step`, never part of a character, never empty."""

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step."""

    name: str
    value: StepValue


@dataclass(frozen=True, slots=True)
class ExplanationUsage:
    """What an explanation cost, in tokens and engine calls."""

    prompt_tokens: int
    """Of the pair."""
    cached_tokens: int
    """Those of them whose KV was held: all of them where it was resumed, those of the prefix where that was held."""
    completion_tokens: int
    """Behind the grade."""
    forced_tokens: int
    """Those of them that the grammar left no choice about."""
    decode_steps: int
    """Engine calls that it was part of, beside its prefill."""


@dataclass(frozen=True, slots=True)
class ExplanationTiming:
    """Where the time went, in seconds."""

    queue_s: float
    """From admission to its first engine call."""
    first_token_s: float
    """From admission to its first tokens."""
    total_s: float
    """From admission to its last token."""


@dataclass(frozen=True, slots=True)
class Done:
    """The explanation is complete, parses and holds."""

    usage: ExplanationUsage
    timing: ExplanationTiming
    resumed: bool
    """It went on from the KV of the scored pair; else the pair was computed once more."""
    cached: bool = False
    """It was not decoded for this request: the engine's side never sets it."""


Event = Grade | Delta | Step | Done


class Explains(Protocol):
    """What the HTTP side needs of an Explainer."""

    def explain(self, request: ExplanationRequest) -> AsyncGenerator[Event, None]:
        """The events of one explanation; closing the iterator (`aclose`) ends it within one decode step.

        Whatever is refused is refused before the first event: pull that one before any header is sent.

        Raises:
            InvalidFieldsError: a grade that the model has not, an instruction that does not fit the template.
            TooManyExplanationsError: as many as may be are under way.
            ExplanationCutError: `max_tokens` is used up; no step that was said is unfinished.
            CannotExplainError: the model's vocabulary or its positions have no room for an explanation.
            DeadlineExceededError, EngineFailedError, EngineDeadError, NotReadyError: as of a score.
        """
        ...


@dataclass(slots=True)
class ExplainingFigures:
    """Of one model, since its start; read at any time, written by the engine's side."""

    admitted: int = 0
    resumed: int = 0
    """Begun from held KV."""
    prefilled: int = 0
    """Begun by computing the pair once more."""
    finished: int = 0
    cancelled: int = 0
    """Given up by their caller."""
    expired: int = 0
    failed: int = 0
    refused: int = 0
    """Too many were under way."""
    cut: int = 0
    """`max_tokens` was used up."""
    tokens: int = 0
    """Decoded, forced ones included."""
    decode_steps: int = 0
    """Engine calls."""
    decode_seconds: float = 0.0
    """Of those calls."""
    kept_pairs: int = 0
    """Scored pairs whose KV was kept."""
    evicted_pairs: int = 0
