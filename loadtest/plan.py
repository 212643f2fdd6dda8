"""A plan: what is sent, how fast, for how long. TOML, read strictly: an unknown key stops the run.

    slo_ms = 400                             an answer counts as good if it is whole and this fast, from when it was due

    [mix]
    documents = {"10" = 0.5, "50" = 0.5}     documents of a request and their shares
    pairs = "../data/trecdl/test.jsonl.gz"   draw texts from real pairs, so that lengths are real; without it: made up
    cached_share = 0.3                       requests that ask again what was asked before
    explain_share = 0.05                     requests whose first result is explained afterwards, as a stream
    timeout_ms = 390                         the deadline that the service is told

    [[phases]]                               run one after another; docs/loadtest.md has every key
    kind = "ramp"                            closed | open | ramp

A rate is requests a second, or a share of what an earlier phase found: "80% of knee", "40% of closed".
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]
_RELATIVE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*of\s+(knee|closed)\s*$")


class InvalidPlanError(ValueError):
    """The plan cannot be run; the message says what is at fault."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mix(_Strict):
    """What requests are made of; the same plan and seed give the same requests, whatever the number of senders."""

    path: str = "/score"
    documents: dict[int, float] = {20: 1.0}
    """Documents of a request, and how often so many."""
    pairs: Path | None = None
    """JSON lines with `query` and `document`, `.gz` or not; relative to the plan."""
    query_words: int = Field(default=3, ge=1)
    document_words: int = Field(default=25, ge=1)
    """Median of made-up documents; lengths are log-normal."""
    document_words_spread: float = Field(default=0.5, ge=0.0)
    cached_share: Share = 0.0
    cached_requests: int = Field(default=50, ge=1)
    """Distinct requests that are asked again and again."""
    explain_share: Share = 0.0
    explain_path: str = "/explain"
    timeout_ms: int | None = Field(default=None, ge=1)
    partial_share: Share = 0.0
    """Requests that take what was scored by their deadline."""
    hang_up_share: Share = 0.0
    """Requests given up at some moment before `slo_ms`."""

    @field_validator("documents")
    @classmethod
    def _sizes(cls, value: dict[int, float]) -> dict[int, float]:
        if not value or min(value) < 1 or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("sizes are 1 or more, shares 0 or more and not all 0")
        return value


class _Phase(_Strict):
    name: str = ""
    seconds: Seconds = 20.0
    """Measured time, of each level in a ramp."""
    warm_up_seconds: float = Field(default=3.0, ge=0.0)
    """Sent before that and not counted."""


class Closed(_Phase):
    """Clients that send their next request when they have their answer: what the service can do, not what users see."""

    kind: Literal["closed"]
    clients: int = Field(default=8, ge=1)
    deadlines: bool = False
    """Whether the mix's `timeout_ms` is sent: a client that is refused asks again at once, which is no saturation."""


class Open(_Phase):
    """Requests that come whatever has become of others: what users see."""

    kind: Literal["open"]
    rate: float | str
    arrivals: Literal["poisson", "constant"] = "poisson"

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: float | str) -> float | str:
        return readable_rate(value)


class Ramp(_Phase):
    """Open loops at rising rates up to the knee: the highest at which `good_share` of the requests are good."""

    kind: Literal["ramp"]
    start: float | str
    factor: float = Field(default=1.3, gt=1.0)
    good_share: float = Field(default=0.95, gt=0.0, le=1.0)
    refine: int = Field(default=2, ge=0)
    """Levels between the last that held and the first that did not."""
    max_levels: int = Field(default=14, ge=1)
    arrivals: Literal["poisson", "constant"] = "poisson"

    @field_validator("start")
    @classmethod
    def _readable(cls, value: float | str) -> float | str:
        return readable_rate(value)


Phase = Annotated[Closed | Open | Ramp, Field(discriminator="kind")]


class Senders(_Strict):
    """The processes that send."""

    processes: int = Field(default=2, ge=1)
    give_up_seconds: Seconds = 60.0
    max_under_way: int = Field(default=2000, ge=1)
    """Requests one process has under way at most; what is due beyond them is counted as `unsent`."""


class Plan(_Strict):
    """A whole load test."""

    name: str
    seed: int = 0
    slo_ms: float = Field(gt=0.0)
    mix: Mix = Mix()
    senders: Senders = Senders()
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _shares_come_after_what_they_are_shares_of(self) -> "Plan":
        known: set[str] = set()
        for phase in self.phases:
            rate = phase.rate if isinstance(phase, Open) else phase.start if isinstance(phase, Ramp) else 0.0
            if isinstance(rate, str):
                _, of = _parts(rate)
                if of not in known:
                    raise ValueError(f"{rate!r}: no phase before it finds the {of} rate")
            known |= {"closed"} if isinstance(phase, Closed) else {"knee"} if isinstance(phase, Ramp) else set()
        return self


def readable_rate(value: float | str) -> float | str:
    """`value`, if it is a positive rate or a share of one.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str):
        _parts(value)
    elif value <= 0:
        raise ValueError("a rate is above 0")
    return value


def rate_of(value: float | str, found: dict[str, float]) -> float:
    """Requests a second; `found` has the rates that earlier phases found."""
    if not isinstance(value, str):
        return value
    percent, of = _parts(value)
    return percent / 100 * found[of]


def _parts(value: str) -> tuple[float, str]:
    match = _RELATIVE.match(value)
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is no rate; write requests a second, or '80% of knee', '40% of closed'")
    return float(match[1]), match[2]


def load_plan(path: Path) -> Plan:
    """The plan in a TOML file.

    Raises:
        InvalidPlanError: the file cannot be read, or something in it is unknown or wrong.
    """
    try:
        plan = Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidPlanError(f"{path}: {error}") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, one['loc'])) or 'plan'}: {one['msg']}" for one in error.errors())
        raise InvalidPlanError(f"{path}: " + "; ".join(faults)) from error
    pairs = plan.mix.pairs
    if pairs is None or pairs.is_absolute():
        return plan
    return plan.model_copy(update={"mix": plan.mix.model_copy(update={"pairs": path.parent / pairs})})
