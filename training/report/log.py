"""What a run's log tells: its start, its curves, its stages.

A run folder has `log.jsonl`; a curriculum's has one more in each stage folder (`1-easy/`, ...), read one after the
other, steps counted on.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Series = tuple[list[float], list[float]]
"""Steps and values."""
_NOT_CURVES = {"event", "step", "tokens", "file", "num_pairs", "num_queries", "seconds", "epoch"}


@dataclass(slots=True)
class RunHistory:
    """A run's log, read."""

    start: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, Series] = field(default_factory=dict)
    """Figures of every step, by name."""
    validation: dict[str, dict[str, Series]] = field(default_factory=dict)
    """Figures by file and name."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0


def _events(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:  # the line a killed run was writing
            continue
    return events


def _add(series: dict[str, Series], event: dict[str, Any], offset: float) -> float:
    """Append every number of an event to its series; the event's step."""
    step = float(event["step"]) + offset
    for name, value in event.items():
        if name not in _NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool):
            steps, values = series.setdefault(name, ([], []))
            while steps and steps[-1] >= step:  # a resumed run repeats the steps since its last save
                steps.pop()
                values.pop()
            steps.append(step)
            values.append(float(value))
    return step


def read_history(run: Path) -> RunHistory:
    """The history of a run folder.

    Raises:
        FileNotFoundError: it has no log.
    """
    paths = [path for path in (run / "log.jsonl", *sorted(run.glob("[0-9]*-*/log.jsonl"))) if path.is_file()]
    if not paths:
        raise FileNotFoundError(f"{run}: no log.jsonl; is it a run folder?")
    history, offset = RunHistory(), 0.0
    for path in paths:
        last = offset
        for event in _events(path):
            kind = event.get("event")
            if kind == "start":
                history.start = history.start or event
            elif kind == "stage":
                history.stages.append(event)
            elif kind == "validation":
                _add(history.validation.setdefault("/".join(Path(event["file"]).parts[-2:]), {}), event, offset)
            elif "step" in event:
                last = max(last, _add(history.steps, event, offset))
                history.tokens += int(event.get("tokens", 0))
        offset = last
    return history
