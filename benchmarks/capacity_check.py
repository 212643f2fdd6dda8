"""The capacity model against the service: the knee it foretells, and the knee that the load tester finds.

    python -m benchmarks.capacity_check [--quick] [--out results/capacity.json]        five minutes on two quiet cores

For each of three mixes (1, 20 and 100 documents a request), in one run against one service with one engine:

    costs       a, b and c from closed loops of OTHER sizes (2, 5, 10, 50 documents): each took a * tokens + b * calls
                + c * requests, as the service counted them, c being what a request takes from the engine beside its
                calls; the way before the engine from one client that has the service to itself
    measured    the load tester's ramp: the highest rate at which 95 % of the requests are within the mix's limit
    simulated   the same ramp, with the same arrival times, against scale/capacity_simulation.py with those costs

Costs are taken before and after each mix and averaged, since machines drift.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.http_load import closed_loop
from benchmarks.served import ROOT, Served, serving
from loadtest.arrivals import due_times
from loadtest.knee import Level, knee_of, next_rate
from loadtest.mix import Requests
from loadtest.plan import Closed, Mix, Plan, Ramp, Senders
from loadtest.run import Run
from loadtest.work import Seen
from relevance.artifact import Artifact, load_artifact
from relevance.provenance import command_line, write_result
from scale.capacity_profile import Costs
from scale.capacity_simulation import Arrival, Simulation
from service.settings import Settings

COST_SIZES, FRONT_SIZES = (2, 5, 10, 50), (1, 20)
NUM_CLIENTS = 8
COST_S = 3.0
NUM_SAMPLES = 60
RAMP_PHASE = 1
START = 0.8
CLOSED_S = 4.0
COUNTED = ("relevance_pack_tokens", "relevance_prefix_batch_tokens")


@dataclass(frozen=True, slots=True)
class Case:
    """One mix."""

    documents: int
    slo_ms: float
    seconds: float
    """Of each level of the ramp."""
    clients: int
    """That saturate it: fewer, the more a request brings."""

    def plan(self, shorter: float, patience: float) -> Plan:
        """Saturation, from which the ramp begins, and the ramp, with `patience` times the limit."""
        closed = Closed(kind="closed", clients=self.clients, seconds=CLOSED_S, warm_up_seconds=1)
        ramp = Ramp(kind="ramp", start=f"{100 * START:g}% of closed", factor=1.12, refine=2, max_levels=12)
        ramp = ramp.model_copy(update={"seconds": self.seconds * shorter, "warm_up_seconds": 1.5})
        mix = Mix(documents={self.documents: 1.0})
        name, senders = f"{self.documents} documents", Senders(processes=1)
        return Plan(name=name, slo_ms=patience * self.slo_ms, mix=mix, senders=senders, phases=(closed, ramp))


CASES = (Case(1, 100.0, 7.0, 16), Case(20, 500.0, 9.0, 8), Case(100, 2500.0, 14.0, 4))


class Quiet:
    """A line a load, on stderr."""

    def begin(self, title: str, seconds: float) -> None:
        """Say nothing."""

    def seen(self, seen: Seen) -> None:
        """Say nothing."""

    def end(self, figures: Mapping[str, Any]) -> None:
        """Say what came of it."""
        names = ("name", "offered_rps", "goodput_rps", "good_share", "held", "client_kept_up")
        print(json.dumps({name: figures.get(name) for name in names}), file=sys.stderr)


def counted(served: Served) -> np.ndarray:
    """(tokens, calls) of the engine so far."""
    metrics = served.metrics()
    return np.array([sum(metrics[f"{name}_{kind}"] for name in COUNTED) for kind in ("sum", "count")])


def measure_costs(served: Served, seconds: float, seed: int) -> Costs:
    """a, b and the front, as they are now."""
    rows, took = [], []
    for size in COST_SIZES:
        before = counted(served)
        answers, elapsed_s = asyncio.run(closed_loop(served, [size], NUM_CLIENTS, seconds, seed + size))
        rows.append([*(counted(served) - before), len(answers)])
        took.append(elapsed_s)
    per_token, per_call, per_request = fit(np.array(rows), np.array(took))
    request_s, document_s = measure_front(served, seconds / 2, seed)
    return Costs(
        seconds_per_token=per_token,
        seconds_per_call=per_call,
        engine_seconds_per_request=per_request,
        seconds_per_request=request_s,
        seconds_per_document=document_s,
        max_pack_tokens=Settings.model_fields["max_pack_tokens"].default,
    )


def fit(work: np.ndarray, took: np.ndarray) -> tuple[float, ...]:
    """The a, b, c, none below 0, for which work @ (a, b, c) is nearest to `took`, relative to it; `work` [N, 3].

    Each subset of the unknowns is tried with the others at 0; a is always one of them.
    """
    shares = work / took[:, None]
    best, least = (float(np.mean(1.0 / shares[:, 0])), 0.0, 0.0), np.inf
    for chosen in ([0], [0, 1], [0, 2], [0, 1, 2]):
        found, *_ = np.linalg.lstsq(shares[:, chosen], np.ones(len(took)), rcond=None)
        missed = float(np.sum((shares[:, chosen] @ found - 1.0) ** 2))
        if found.min() >= 0.0 and found[0] > 0.0 and missed < least:
            values = np.zeros(3)
            values[chosen] = found
            best, least = tuple(values.tolist()), missed
    return best


def measure_front(served: Served, seconds: float, seed: int) -> tuple[float, float]:
    """Seconds of a request and of a document outside the engine, for a client that is alone."""
    medians = []
    for size in FRONT_SIZES:
        answers, _ = asyncio.run(closed_loop(served, [size], 1, seconds, seed + 500 + size))
        outside = []
        for answer in answers:
            stages = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"]))
            outside.append(answer.seconds - (float(stages["queue"]) + float(stages["infer"])) / 1e3)
        medians.append(statistics.median(outside))
    document_s = max(0.0, (medians[1] - medians[0]) / (FRONT_SIZES[1] - FRONT_SIZES[0]))
    return max(0.0, medians[0] - document_s), document_s


def token_counts(artifact: Artifact, plan: Plan) -> list[tuple[int, tuple[int, ...]]]:
    """Tokens of the query and of the documents of a sample of the plan's requests."""
    encoder, requests = artifact.manifest.spec.encoder(artifact.tokenizer), Requests(plan.mix, plan.slo_ms, plan.seed)
    found = []
    for number in range(NUM_SAMPLES):
        body = orjson.loads(requests.request(number).content)
        prefix = encoder.encode_prefix(body["query"])
        documents = encoder.encode_documents(prefix, body["documents"])
        found.append((len(prefix.ids), tuple(len(document.ids) for document in documents)))
    return found


def simulated_ramp(plan: Plan, start: float, costs: Costs, sizes: Sequence[tuple[int, tuple[int, ...]]]) -> list[Level]:
    """The plan's ramp from `start`, against the simulation."""
    ramp = plan.phases[RAMP_PHASE]
    if not isinstance(ramp, Ramp):
        raise TypeError("the plan has no ramp at its place")
    tried: list[Level] = []
    while (rate := next_rate(tried, start, ramp.factor, ramp.refine, ramp.max_levels)) is not None:
        seed = plan.seed + 1000 * RAMP_PHASE + len(tried)
        due = due_times(rate, ramp.warm_up_seconds + ramp.seconds, ramp.arrivals, seed)
        drawn = islice(cycle(sizes), len(due))
        arrivals = [Arrival(at, prefix, documents, len(documents)) for at, (prefix, documents) in zip(due, drawn)]  # noqa: B905
        first = sum(at < ramp.warm_up_seconds for at in due)
        share = Simulation(costs).run(arrivals).good_share(plan.slo_ms / 1000, first)
        tried.append(Level(rate, share >= ramp.good_share))
    return tried


def mean_costs(before: Costs, after: Costs) -> Costs:
    """Half way between two moments."""
    first, second = before.model_dump(), after.model_dump()
    return Costs.model_validate({name: (first[name] + second[name]) / 2 for name in first})


@dataclass(frozen=True, slots=True)
class Ramped:
    """What the load tester found of one mix."""

    plan: Plan
    documents: int
    result: dict[str, Any]


def compare(artifact: Artifact, ramped: Ramped, costs: Costs) -> dict[str, Any]:
    """Both knees of one mix."""
    plan, result = ramped.plan, ramped.result
    levels = [level for level in result["levels"] if level["kind"] == "ramp"]
    measured = knee_of([Level(level["offered_rps"], level["held"]) for level in levels])
    start = START * result["closed_rps"]
    simulated = knee_of(simulated_ramp(plan, start, costs, token_counts(artifact, plan)))
    if measured is None or simulated is None:
        raise RuntimeError(f"{plan.name}: no rate held")
    return {
        "documents": ramped.documents,
        "slo_ms": plan.slo_ms,
        "closed_rps": round(result["closed_rps"], 2),
        "measured_knee_rps": round(measured, 2),
        "simulated_knee_rps": round(simulated, 2),
        "error": round(simulated / measured - 1, 4),
        "levels": [{name: level[name] for name in ("offered_rps", "good_share", "held")} for level in levels],
        "client_kept_up": all(level["client_kept_up"] for level in levels),
        "costs": costs.model_dump(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, to see whether it runs")
    parser.add_argument("--documents", type=int, nargs="+", help="only the mixes of so many documents")
    parser.add_argument("--patience", type=float, default=1.0, help="times the limits, for a machine that is busy")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "capacity.json")
    args = parser.parse_args(argv)
    artifact = load_artifact(args.artifact)
    wanted = args.documents or [case.documents for case in CASES]
    shorter = 0.25 if args.quick else 1.0
    mixes = []
    with serving(args.artifact, "--score-cache-mib", "0", num_workers=1) as served:
        asyncio.run(closed_loop(served, [10], NUM_CLIENTS, 1.0))
        before = measure_costs(served, COST_S, 0)
        for case in CASES:
            if case.documents in wanted:
                plan = case.plan(shorter, args.patience)
                ramped = Ramped(plan, case.documents, Run(plan, served.url, {}, Quiet()).measure())
                after = measure_costs(served, COST_S, 10_000 * case.documents)
                mixes.append(compare(artifact, ramped, mean_costs(before, after)))
                before = after
    costs = {name: float(np.median([mix["costs"][name] for mix in mixes])) for name in mixes[0]["costs"]}
    costs["max_pack_tokens"] = int(costs["max_pack_tokens"])
    worst = max(abs(mix["error"]) for mix in mixes)
    figures = {"model": artifact.model_id, "quick": args.quick, "costs": costs, "mixes": mixes, "worst_error": worst}
    write_result(args.out, command_line("benchmarks.capacity_check", argv or sys.argv[1:]), figures)
    print(json.dumps({"errors": {mix["documents"]: mix["error"] for mix in mixes}, "worst_error": worst}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
