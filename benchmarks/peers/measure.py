"""Interleaved rounds of several peers, in groups that fit into memory, ours in every group.

    prepare all  ->  for each group: load, warm up and choose batch sizes, grade once, rounds  ->  rows, agreement

Within a round every workload goes through all peers of the group before the next begins, the order shifted by one each
round, so that a disturbance meets all alike; a peer's ratio is to ours of its own group.
"""

import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.figures import agreement, groups_by_memory, time_figures
from benchmarks.peers.peer import Files, PeerMissing, Setting
from benchmarks.peers.processes import Process, prepare, started
from benchmarks.peers.settings import OURS, REFERENCE
from benchmarks.peers.workloads import Workload


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure."""

    timed: Sequence[Workload]
    num_tokens: Sequence[int]
    """Of each timed workload with its prefix taken once: the same count for everybody."""
    graded: Sequence[Workload]
    rounds: int
    threads: int
    batch_tokens: Sequence[int]
    num_weights: int
    memory_gib: float
    temperature: float


@dataclass(slots=True)
class Found:
    """What came of it so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    logits: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def skip(self, name: str, reason: object) -> None:
        """Note and print why a peer is not there."""
        self.skipped[name] = " ".join(str(reason).split())
        print(f"skipped: {name}: {self.skipped[name]}", file=sys.stderr)


def measure(settings: Sequence[Setting], files: Files, plan: Plan) -> dict[str, Any]:
    """Rows, what is known of each peer, and who was skipped."""
    found = Found()
    ready = [setting for setting in settings if _is_prepared(setting, files, found)]
    sizes = [(one.name, plan.num_weights * one.bytes_per_weight / 2**30) for one in ready if one != OURS]
    ours_gib = plan.num_weights * OURS.bytes_per_weight / 2**30
    by_name = {setting.name: setting for setting in ready}
    for number, names in enumerate(groups_by_memory(sizes, plan.memory_gib, ours_gib)):
        print(f"group {number}: {OURS.name}, {', '.join(names)}", file=sys.stderr)
        _measure_group(number, [OURS, *(by_name[name] for name in names)], files, plan, found)
    _compare(ready, plan, found)
    return {"peers": found.peers, "skipped": found.skipped, "rows": found.rows}


def _is_prepared(setting: Setting, files: Files, found: Found) -> bool:
    try:
        prepare(setting, files)
    except PeerMissing as missing:
        found.skip(setting.name, missing)
        return False
    return True


def _measure_group(number: int, settings: Sequence[Setting], files: Files, plan: Plan, found: Found) -> None:
    with ExitStack() as stack:
        running: dict[str, Process] = {}
        for setting in settings:
            try:
                process = stack.enter_context(started(setting, files, plan.threads, plan.batch_tokens))
                tuned = process.tune(plan.timed[0])
            except PeerMissing as missing:
                found.skip(setting.name, missing)
                continue
            running[setting.name] = process
            if setting.name not in found.peers:
                versions, same = process.versions, setting.same_weights
                found.peers[setting.name] = {"same_weights": same, "versions": versions, **tuned}
                found.logits[setting.name] = np.concatenate([process.score(one).logits for one in plan.graded])
        found.rows += _rounds(number, running, plan)


def _rounds(number: int, running: dict[str, Process], plan: Plan) -> list[dict[str, Any]]:
    seconds: dict[tuple[int, str], list[float]] = {}
    processor: dict[tuple[int, str], list[float]] = {}
    computed: dict[tuple[int, str], int] = {}
    names = list(running)
    for turn in range(plan.rounds):
        shift = turn % len(names)
        for place, workload in enumerate(plan.timed):
            for name in names[shift:] + names[:shift]:
                timed = running[name].score(workload)
                seconds.setdefault((place, name), []).append(timed.seconds)
                processor.setdefault((place, name), []).append(timed.processor_s)
                computed[place, name] = timed.computed_tokens
    rows = []
    for (place, name), taken in seconds.items():
        workload, num_tokens = plan.timed[place], plan.num_tokens[place]
        figures = time_figures(taken, len(workload.documents), num_tokens)
        rows.append(
            {
                "workload": workload.name,
                "documents": len(workload.documents),
                "tokens": num_tokens,
                "peer": name,
                "group": number,
                **figures,
                "processor_ms": round(1e3 * statistics.median(processor[place, name]), 3),
                "computed_tokens": computed[place, name] or None,
            }
        )
    ours = {row["workload"]: row["median_ms"] for row in rows if row["peer"] == OURS.name}
    return [row | {"ratio_to_ours": round(row["median_ms"] / ours[row["workload"]], 3)} for row in rows]


def _compare(settings: Sequence[Setting], plan: Plan, found: Found) -> None:
    reference = found.logits.get(REFERENCE.name)
    for setting in settings:
        if reference is not None and setting.same_weights and setting.name in found.logits:
            figures = agreement(found.logits[setting.name], reference, plan.temperature)
            found.peers[setting.name]["agreement"] = figures
