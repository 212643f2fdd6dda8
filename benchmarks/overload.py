"""What a service is worth under more load than it can serve: Poisson arrivals with deadlines, over HTTP.

    python -m benchmarks.overload [--pairs FILE.jsonl.gz] [--seconds 20] [--out results/overload.json]

The service runs in a process of its own with its default settings; this process sends. In one run:

    saturation  requests a second that CLOSED clients get, who send their next request when they have an answer
    open loop   at 0.5, 1, 1.5, 2 and 3 times that: requests go out when they are due, whatever has come back, and each
                must be answered within `--timeout-ms` of that moment, which the service is told less `--way-ms`
    mixed       at twice saturation, where one in five takes a partial answer and one in ten hangs up

goodput: requests answered whole and in time, a second. Every request counts once: sent = ok + partial + refused +
expired + cancelled, by what the sender saw and by what the service counted.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.served import Served, serving
from benchmarks.texts import Texts
from loadtest.arrivals import due_times
from loadtest.sender import HUNG_UP, Answer, Sender
from relevance.artifact import load_artifact
from relevance.provenance import command_line, write_result

FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0)
CLOSED = 4
OUTCOMES = {429: "refused", 504: "expired", HUNG_UP: "cancelled"}
SERVER_OUTCOMES = {"ok": "ok", "partial": "partial", "cancelled": "cancelled", "deadline_exceeded": "expired"}
SERVER_OUTCOMES |= {"overloaded": "refused", "deadline_unmeetable": "refused"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent."""

    num_documents: int
    timeout_ms: int
    way_ms: int
    seconds: float
    partial_share: float = 0.0
    hang_up_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and what became of it."""

    answer: Answer

    @property
    def outcome(self) -> str:
        """One of the five."""
        if self.answer.status == 200:
            return "ok" if self.answer.json()["coverage"] == 1.0 else "partial"
        return OUTCOMES.get(self.answer.status, f"status {self.answer.status}")


async def saturate(sender: Sender, texts: Texts, plan: Plan) -> float:
    """Requests a second that CLOSED clients get, after a second of warm-up."""
    ends: list[float] = []
    stop_at = time.monotonic() + plan.seconds + 1

    async def client() -> None:
        while time.monotonic() < stop_at:
            answer = await sender.post("/score", json.dumps(texts.request(plan.num_documents)).encode())
            if answer.status != 200:
                raise RuntimeError(f"status {answer.status} without load: {answer.body[:200]!r}")
            ends.append(time.monotonic())

    await asyncio.gather(*(client() for _ in range(CLOSED)))
    counted = [end for end in ends if end > stop_at - plan.seconds]
    return len(counted) / (max(counted) - (stop_at - plan.seconds))


async def open_loop(sender: Sender, texts: Texts, plan: Plan, rate: float, seed: int) -> list[Sent]:
    """Send at `rate` for `plan.seconds` and wait for every answer."""
    rng = random.Random(seed)
    due = due_times(rate, plan.seconds, "poisson", seed)
    requests = []
    for _ in due:
        body = {**texts.request(plan.num_documents), "timeout_ms": plan.timeout_ms - plan.way_ms}
        if rng.random() < plan.partial_share:
            body["partial"] = True
        hang_up_s = rng.uniform(0.0, plan.timeout_ms / 1000) if rng.random() < plan.hang_up_share else None
        requests.append((json.dumps(body).encode(), hang_up_s))
    began = time.monotonic() + 0.1

    async def one(offset: float, content: bytes, hang_up_s: float | None) -> Sent:
        await asyncio.sleep(began + offset - time.monotonic())
        return Sent(await sender.post("/score", content, began + offset, hang_up_s))

    return await asyncio.gather(*(one(offset, *request) for offset, request in zip(due, requests, strict=True)))


def summarise(sent: Sequence[Sent], plan: Plan, before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    """Figures of one open loop."""
    by_outcome = Counter(one.outcome for one in sent)
    answered = [one for one in sent if one.outcome in ("ok", "partial")]
    in_time = [one for one in sent if one.outcome == "ok" and one.answer.seconds <= plan.timeout_ms / 1000]
    counted: Counter[str] = Counter()
    for code, outcome in SERVER_OUTCOMES.items():
        series = f'relevance_requests_total{{outcome="{code}"}}'
        counted[outcome] += round(after[series] - before[series])
    milliseconds = [1000 * one.answer.seconds for one in answered]
    refusals = [1000 * one.answer.seconds for one in sent if one.outcome == "refused"]
    return {
        "sent": len(sent),
        "goodput_rps": round(len(in_time) / plan.seconds, 2),
        "outcomes": dict(sorted(by_outcome.items())),
        "outcomes_by_the_service": dict(sorted((k, v) for k, v in counted.items() if v)),
        "adds_up": sum(by_outcome.values()) == len(sent) == sum(counted.values()),
        "answered_ms": {f"p{q}": _percentile(milliseconds, q) for q in (50, 95, 99)},
        "answered_in_time": sum(took <= plan.timeout_ms for took in milliseconds),
        "refused_ms_p99": _percentile(refusals, 99),
        "late_send_ms_p99": _percentile([1000 * one.answer.late_send_s for one in sent], 99),
    }


def _percentile(values: Sequence[float], q: int) -> float | None:
    return round(float(np.percentile(values, q)), 1) if values else None


async def measure(served: Served, texts: Texts, plan: Plan) -> dict[str, Any]:
    """Saturation, then every load."""
    rows = []
    loads = [(factor, plan) for factor in FACTORS]
    loads.append((2.0, replace(plan, partial_share=0.2, hang_up_share=0.1)))
    async with Sender(served.url) as sender:
        saturation = await saturate(sender, texts, replace(plan, seconds=plan.seconds / 2))
        for number, (factor, load) in enumerate(loads):
            before = await asyncio.to_thread(served.metrics)
            sent = await open_loop(sender, texts, load, factor * saturation, number)
            await asyncio.sleep(0.5)  # what was hung up on is counted when the service has noticed
            row = summarise(sent, load, before, await asyncio.to_thread(served.metrics))
            offered = {"load": factor, "mixed": load is not plan, "offered_rps": round(factor * saturation, 2)}
            rows.append(offered | row)
            print(json.dumps(rows[-1]), flush=True)
    after = await asyncio.to_thread(served.metrics)
    model = {name: after[f"relevance_cost_seconds_per_{name}"] for name in ("token", "pack")}
    return {"saturation_rps": round(saturation, 2), "cost_seconds_per": model, "rows": rows}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--pairs", type=Path, help="draw queries and documents from this file")
    parser.add_argument("--documents", type=int, default=20, help="of one request")
    parser.add_argument("--timeout-ms", type=int, default=400)
    parser.add_argument("--way-ms", type=int, default=5, help="how much less the service is told")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--out", type=Path, default=Path("results/overload.json"))
    args = parser.parse_args(argv)
    plan = Plan(args.documents, args.timeout_ms, args.way_ms, args.seconds)
    with serving(args.artifact) as served:
        figures = asyncio.run(measure(served, Texts(args.pairs), plan))
    settings = {name: getattr(args, name) for name in ("documents", "timeout_ms", "way_ms", "seconds")}
    goodputs = {row["load"]: row["goodput_rps"] for row in figures["rows"] if not row["mixed"]}
    share = round(goodputs[max(goodputs)] / max(goodputs.values()), 3)
    result = {"model": load_artifact(args.artifact).model_id, "settings": settings, **figures}
    command = command_line("benchmarks.overload", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {**result, "goodput_at_highest_load_of_peak": share})
    print(json.dumps({"saturation_rps": figures["saturation_rps"], "goodput_rps": goodputs, "of_peak": share}))


if __name__ == "__main__":
    main()
