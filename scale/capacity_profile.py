"""A traffic and what serves it, as TOML, read strictly: an unknown key stops the plan.

    [traffic]
    requests_per_second = 200                at the peak that is planned for
    documents = { 20 = 0.7, 100 = 0.3 }      documents of a request and their shares
    document_tokens = { median = 34, spread = 0.5 }
    deadline_ms = 400

    [engine]
    result = "../results/capacity.json"      a, b and the rest as measured there; or each of them by name

    [machine]
    engines = 2
    price_per_hour = 0.40

Every key is a field below, with its unit.
"""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scale.capacity_errors import CapacityError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lengths(_Strict):
    """Tokens of a text: log-normal, cut at both ends."""

    median: float = Field(gt=0.0)
    spread: float = Field(default=0.0, ge=0.0)
    """Standard deviation of the logarithm; 0: all alike."""
    least: int = Field(default=2, ge=1)
    most: int = Field(default=448, ge=1)


class Traffic(_Strict):
    """What comes."""

    requests_per_second: float = Field(gt=0.0)
    documents: dict[int, float] = {20: 1.0}
    document_tokens: Lengths = Lengths(median=34.0, spread=0.5)
    """What the engine computes of a document: its segment with the prompt's suffix."""
    query_tokens: Lengths = Lengths(median=12.0)
    """The prefix segment."""
    cached_pairs: Share = 0.0
    """Documents whose score the cache has."""
    cached_queries: Share = 0.0
    """Requests whose prefix the cache has."""
    explain_share: Share = 0.0
    """Requests of which one result is explained afterwards."""
    answer_tokens: float = Field(default=50.0, ge=1.0)
    """Of an explanation."""
    deadline_ms: float = Field(gt=0.0)
    good_share: float = Field(default=0.99, gt=0.0, le=1.0)
    """Requests that must be answered whole by then."""
    is_deadline_told: bool = True
    """Whether requests carry it, so that the service refuses what it cannot do in time."""

    @field_validator("documents")
    @classmethod
    def _sizes(cls, value: dict[int, float]) -> dict[int, float]:
        if not value or min(value) < 1 or min(value.values()) < 0 or sum(value.values()) <= 0:
            raise ValueError("sizes are 1 or more, shares 0 or more and not all 0")
        return value


class Costs(_Strict):
    """What an engine takes: seconds = a * tokens + b of a call, and what lies around it."""

    seconds_per_token: float = Field(gt=0.0)
    """a."""
    seconds_per_call: Seconds
    """b."""
    seconds_per_request: Seconds = 0.0
    """Before the engine, one request after the other: HTTP, parsing, tokenising, answering."""
    seconds_per_document: Seconds = 0.0
    """The same, of each document."""
    engine_seconds_per_request: Seconds = 0.0
    """What a request takes from the engine: the front's work where it shares the engine's core or interpreter."""
    seconds_per_answer_token: Seconds = 0.0
    """Of an explanation, as it decodes beside the usual number of others."""
    explain_share: Share = 0.1
    """Share of the engine's time that explanations may take while scores wait."""
    max_pack_tokens: int = Field(default=128, ge=1)


class Machine(_Strict):
    """What is rented."""

    engines: int = Field(default=1, ge=1)
    """Worker processes of a CPU machine, or GPUs."""
    price_per_hour: float = Field(default=0.0, ge=0.0)
    utilisation: float = Field(default=0.8, gt=0.0, le=1.0)
    """Share of the rate at which it bends that a machine is given: what is left is for bursts."""
    spare: int = Field(default=1, ge=0)
    """Machines that may be away."""


class Profile(_Strict):
    """All that a plan is made of."""

    name: str
    seed: int = 0
    traffic: Traffic
    engine: Costs
    machine: Machine = Machine()


def load_profile(path: Path) -> Profile:
    """The profile in a TOML file.

    Raises:
        CapacityError: the file, or the result it refers to, cannot be read, or a field is unknown or wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        engine = content.get("engine")
        if isinstance(engine, dict) and "result" in engine:
            content["engine"] = {**_measured(path.parent / str(engine["result"])), **engine}
            del content["engine"]["result"]
        return Profile.model_validate(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise CapacityError(f"{path}: {error}") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise CapacityError(f"{path}: " + "; ".join(faults)) from error


def _measured(path: Path) -> dict[str, Any]:
    costs = json.loads(path.read_text(encoding="utf-8")).get("costs")
    if not isinstance(costs, dict):
        raise CapacityError(f"engine.result: {path} holds no measured costs")
    return {name: value for name, value in costs.items() if name in Costs.model_fields}
