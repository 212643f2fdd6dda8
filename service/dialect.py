"""The contract between the routes and a wire format.

A dialect is data: which bodies it takes at which paths, how to read one into pairs, how to write the scores, and
how it says that something went wrong. It decides nothing about scoring and knows no HTTP beyond a status and a
few headers. The life of a request in a dialect:

    fields -> Entry.read -> Ask(pairs, cut) -> Scorer -> Ask.write(scored, stamp) -> Reply
    ServiceError -> Dialect.refuse(error, stamp) -> Reply

A module of `service.dialects` that defines `DIALECT` is found by itself: a new dialect is one file and its test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from relevance.pair import Pair
from service.errors import ServiceError
from service.score import ScoredRequest
from service.tokenise import DEFAULT_CUT, Cut
from service.wire import Fields

Claim = Callable[[Fields], bool]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a dialect may tell of the model, and the limits its readers keep."""

    name: str
    hash: str
    """sha256 of the artifact's manifest."""
    precision: str
    created: int
    """When the artifact was made, in seconds since 1970."""
    grade_names: Sequence[str]
    label_token_ids: Sequence[int]
    max_tokens: int
    """Of one prompt."""
    max_documents: int
    max_pack_tokens: int
    max_waiting_tokens: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes one answer different from another with the same content."""

    id: str
    """A UUID."""
    created: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in some dialect."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a body asks for, and how its answer is written."""

    pairs: Sequence[Pair]
    write: Callable[[ScoredRequest, Stamp], Reply]
    cut: Cut = DEFAULT_CUT
    timeout_ms: int | None = None
    """Within how many milliseconds of its arrival it must be answered."""
    priority: int = 0
    """0 is served before 1."""
    is_partial: bool = False
    """Whether `write` knows how to tell of pairs that were not scored in time."""
    wants_handles: bool = False
    """Whether `write` wants a handle for each pair, with which its grade can be explained."""


def anything_else(_: Fields) -> bool:
    """The claim of the one entry of a path that takes what no other claims, and answers what is no request at all."""
    return True


def has(*names: str, lacks: Sequence[str] = ()) -> Claim:
    """Claims a body with any of `names` and none of `lacks`."""
    return lambda fields: any(name in fields for name in names) and not any(name in fields for name in lacks)


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of body."""

    paths: Mapping[str, Claim]
    """Where it is taken, and which bodies there are meant for it."""
    requests: Sequence[type[BaseModel]]
    """The models of the body, for the OpenAPI document."""
    answer: Any
    """The type of the answer, for the OpenAPI document."""
    summary: str
    read: Callable[[Fields, ServedModel], Ask]
    """Raises InvalidFieldsError for fields that are no request."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format."""

    name: str
    entries: Sequence[Entry]
    error: type[BaseModel]
    """The model of every error's body."""
    refuse: Callable[[ServiceError, Stamp], Reply]
    facts: Mapping[str, Callable[[ServedModel], Any]] = field(default_factory=dict)
    """GET paths that tell of the model, and what they answer."""
    families: Sequence[str] = ()
    """An unknown path that begins so gets this dialect's 404."""


def native_extras(scored: ScoredRequest, index: int, served: ServedModel) -> dict[str, Any]:
    """What only this service knows of a pair: in a foreign dialect it is given on request alone."""
    pairs = scored.pairs
    grade = int(pairs.grades[index])
    return {
        "grade": grade,
        "grade_name": served.grade_names[grade],
        "distribution": pairs.distribution[index].tolist(),
        "truncated": pairs.truncated[index],
        "num_tokens": pairs.num_tokens[index],
    }
