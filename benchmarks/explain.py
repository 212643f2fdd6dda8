"""What explanations cost the scores beside them, how their rate grows with their number, and what held KV is worth.

    python -m benchmarks.explain --data DIR/trecdl/val.jsonl.gz [--quick] [--out results/explain.json]

One service in processes of its own; this process sends:

    scores   one worker: /score requests, Poisson, at `--load` of what it saturates at, while so many explanations are
             under way all the time; each reader opens the next as soon as one has ended. None, 8 and 32 by turns, a few
             seconds each, until `--requests` have been sent beside each; p99 to none with an interval of 95 %, from
             turns drawn again
    rates    the same without scores, on one worker and on one per core, which is what the service starts by itself:
             tokens a second of all explanations together

Explanations are of pairs scored before with handles, at temperature 1 with a seed of their own each, so that no cache
answers. Then, in this process: what the engine decodes without a service around it (`benchmarks.explain_decode`), and
on documents of `--long-tokens` the seconds to the first tokens of an explanation that goes on from held KV and of one
whose pair is computed once more, by turns. About four minutes; `--quick` half a minute, too rough to quote. Last line:
JSON.
"""

import argparse
import asyncio
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.explain_decode import measure_decoding
from benchmarks.explain_model import long_pairs, running_model
from benchmarks.overload import Plan, open_loop, saturate
from benchmarks.served import serving
from benchmarks.texts import Texts
from engine.ort import OrtEngine
from loadtest.sender import Sender
from relevance.artifact import Artifact, load_artifact
from relevance.pair import Pair
from relevance.provenance import command_line, write_result
from service.explaining.events import Done, ExplanationRequest
from service.live_model import LiveModel
from service.work import Terms
from training.data import read_pairs

SCORED_BESIDE = (0, 8, 32)
RATES_OF = (1, 4, 16, 32)
DECODED = (1, 4, 8, 16, 32)
NUM_HANDLES = 64
NUM_RESAMPLED = 2000
NUM_LONG = 12


@dataclass(slots=True)
class Readers:
    """Explanations under way, always as many."""

    sender: Sender
    bodies: Iterator[dict[str, Any]]
    seeds: Iterator[int]
    tokens: list[tuple[float, int]] = field(default_factory=list)
    """When an explanation ended, and its tokens."""
    first_s: list[float] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)

    async def read(self, until: float) -> None:
        """One explanation after the other."""
        while time.monotonic() < until:
            body = {**next(self.bodies), "temperature": 1.0, "seed": next(self.seeds)}
            answer = await self.sender.stream("/explain", orjson.dumps(body), is_delta)
            if answer.status != 200 or answer.first_piece_s is None:
                raise RuntimeError(f"status {answer.status}: {answer.body[-200:]!r}")
            done = orjson.loads(answer.body.rsplit(b"data: ", 1)[1].split(b"\n", 1)[0])
            self.tokens.append((time.monotonic(), done["usage"]["completion_tokens"]))
            self.first_s.append(answer.first_piece_s)
            self.resumed.append(done["resumed"])

    async def run(self, number: int, seconds: float) -> None:
        """So many at once, for so long."""
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.read(until) for _ in range(number)))


def is_delta(lines: Sequence[bytes]) -> bool:
    """Whether an event is a piece of the explanation."""
    return b"event: delta" in lines


async def new_readers(sender: Sender, pairs: Sequence[Pair], first_seed: int) -> Readers:
    """Score pairs with handles, and read explanations of those; seeds from `first_seed` on, none of them twice."""
    bodies: list[dict[str, Any]] = []
    for pair in pairs:
        body = {"query": pair.query, "documents": [pair.document], "explain": True}
        answer = await sender.post("/score", orjson.dumps(body))
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {answer.body[:200]!r}")
        bodies.append({"handle": answer.json()["results"][0]["handle"]})
    return Readers(sender, itertools.cycle(bodies), itertools.count(first_seed))


async def measure_scores(url: str, pairs: Sequence[Pair], plan: Plan, load: float, num_requests: int) -> dict[str, Any]:
    """Scores beside explanations, at least so many of each kind."""
    took: dict[int, list[list[float]]] = {number: [] for number in SCORED_BESIDE}
    tokens, reading_s = (dict.fromkeys(SCORED_BESIDE, 0.0) for _ in range(2))
    texts = Texts(None)
    async with Sender(url) as sender:
        readers = await new_readers(sender, pairs, 1)
        saturation = await saturate(sender, texts, plan)
        rate = load * saturation
        rounds = math.ceil(num_requests / (rate * plan.seconds))
        for number_of_round, number in itertools.product(range(rounds), SCORED_BESIDE):
            readers.tokens.clear()
            began = time.monotonic()
            reading = asyncio.create_task(readers.run(number, plan.seconds + 0.2))
            sent = await open_loop(sender, texts, plan, rate, number_of_round)
            await reading
            took[number].append([1e3 * one.answer.seconds for one in sent if one.outcome == "ok"])
            tokens[number] += sum(count for _, count in readers.tokens)
            reading_s[number] += time.monotonic() - began
    p99 = {number: resampled_p99(found) for number, found in took.items()}
    scores = {
        str(number): {
            "sent": len(pooled),
            "p50_ms": round(float(np.percentile(pooled, 50)), 2),
            "p99_ms": round(float(np.percentile(pooled, 99)), 2),
            "p99_to_idle": round(float(np.percentile(pooled, 99) / np.percentile(list(pool(took[0])), 99)), 3),
            "p99_to_idle_95": np.percentile(p99[number] / p99[0], [2.5, 97.5]).round(3).tolist() if number else None,
            "explanation_tokens_per_s": round(tokens[number] / reading_s[number], 1),
        }
        for number, found in took.items()
        for pooled in [list(pool(found))]
    }
    return {"saturation_rps": round(saturation, 2), "offered_rps": round(rate, 2), "rounds": rounds, "scores": scores}


def pool(turns: Sequence[Sequence[float]]) -> Iterator[float]:
    """All of them."""
    return itertools.chain.from_iterable(turns)


def resampled_p99(turns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """p99 of turns drawn again and again with replacement, whole: what happens in one turn hangs together."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(turns), (NUM_RESAMPLED, len(turns)))
    return np.array([np.percentile(list(pool([turns[index] for index in draw])), 99) for draw in draws])


async def measure_rates(url: str, pairs: Sequence[Pair], seconds: float, rounds: int) -> dict[str, Any]:
    """Tokens a second of explanations with nothing beside them."""
    tokens: dict[int, list[float]] = {number: [] for number in RATES_OF}
    async with Sender(url) as sender:
        readers = await new_readers(sender, pairs, 1_000_000)
        for _, number in itertools.product(range(rounds), RATES_OF):
            readers.tokens.clear()
            await readers.run(number, seconds)
            tokens[number].append(rate_of(readers.tokens, seconds))
    rates = {str(number): round(statistics.median(found), 1) for number, found in tokens.items()}
    return {
        "tokens_per_s": rates,
        "to_one": {number: round(one / rates["1"], 2) for number, one in rates.items()},
        "resumed_share": round(statistics.mean(readers.resumed), 3),
    }


def rate_of(ended: Sequence[tuple[float, int]], seconds: float) -> float:
    """Tokens a second of explanations, from the first end to the last: their beginnings and ends overlap."""
    if len(ended) < 2:
        return sum(count for _, count in ended) / seconds
    ends = sorted(ended)
    return sum(count for _, count in ends[1:]) / (ends[-1][0] - ends[0][0])


async def first_tokens(artifact: Artifact, num_tokens: int, num_pairs: int) -> dict[str, Any]:
    """Milliseconds to the first tokens, resumed and computed once more, medians."""
    found: dict[str, list[float]] = {"resumed": [], "computed_once_more": []}
    lengths: list[int] = []
    async with running_model(artifact) as model:
        for number, pair in enumerate(long_pairs(artifact, num_tokens, 2 * num_pairs + 2)):
            keeps_kv = number % 2 == 0
            done = await explained(model, pair, keeps_kv=keeps_kv)
            if done.resumed is not keeps_kv:
                raise RuntimeError("a pair whose KV was kept was computed once more, or the other way round")
            if number >= 2:  # the first of each kind warms up
                found["resumed" if keeps_kv else "computed_once_more"].append(1e3 * done.timing.first_token_s)
                lengths.append(done.usage.prompt_tokens)
    medians = {name: statistics.median(values) for name, values in found.items()}
    return {
        "prompt_tokens": round(statistics.mean(lengths)),
        "pairs": num_pairs,
        "median_ms": {name: round(value, 2) for name, value in medians.items()},
        "resumed_to_computed": round(medians["resumed"] / medians["computed_once_more"], 3),
    }


async def explained(model: LiveModel, pair: Pair, *, keeps_kv: bool) -> Done:
    """Score a pair and explain it; the query's prefix is held either way."""
    scored = await model.scorer.score([pair], terms=Terms(keeps_kv=keeps_kv))
    async for event in model.explainer.explain(ExplanationRequest(pair, int(scored.pairs.grades[0]))):
        if isinstance(event, Done):
            return event
    raise RuntimeError("an explanation without an end")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--data", type=Path, required=True, help="pairs to explain")
    parser.add_argument("--documents", type=int, default=10, help="of one /score request")
    parser.add_argument("--load", type=float, default=0.4, help="of saturation")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one turn")
    parser.add_argument("--requests", type=int, default=400, help="scores beside each number of explanations")
    parser.add_argument("--rounds", type=int, default=3, help="of rates")
    parser.add_argument("--long-tokens", type=int, default=340)
    parser.add_argument("--quick", action="store_true", help="a look: turns of a second, few of them")
    parser.add_argument("--out", type=Path, default=Path("results/explain.json"))
    args = parser.parse_args(argv)
    if args.quick:
        args.seconds, args.requests, args.rounds = 1.0, 15, 1
    return args


def measure_alone(artifact: Artifact, pairs: Sequence[Pair], args: argparse.Namespace) -> dict[str, Any]:
    """What the engine decodes of these pairs, and of long ones."""
    engine, plan = OrtEngine(artifact, num_threads=1), (args.seconds / 4, args.rounds)
    try:
        long = long_pairs(artifact, args.long_tokens, NUM_LONG)
        return {
            name: measure_decoding(artifact, engine, some, DECODED, plan)
            for name, some in (("pairs", pairs), ("long", long))
        }
    finally:
        engine.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write a result."""
    args = parse(argv)
    artifact = load_artifact(args.artifact)
    rows = read_pairs(args.data, artifact.manifest.spec.scale.num_grades)
    pairs = [Pair(row.query, row.document) for row in rows[:: max(1, len(rows) // NUM_HANDLES)][:NUM_HANDLES]]
    plan = Plan(args.documents, timeout_ms=60_000, way_ms=0, seconds=args.seconds)
    flags = ("--max-explanations", "64", "--score-cache-mib", "0", "--explain-kv-mib", "256")
    result: dict[str, Any] = {"rates": {}}
    for workers in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
        with serving(args.artifact, *flags, num_workers=workers) as served:
            if workers == 1:
                result |= asyncio.run(measure_scores(served.url, pairs, plan, args.load, args.requests))
            result["rates"][str(workers)] = asyncio.run(measure_rates(served.url, pairs, args.seconds / 2, args.rounds))
    result["engine"] = measure_alone(artifact, pairs, args)
    result["first_tokens"] = asyncio.run(first_tokens(artifact, args.long_tokens, NUM_LONG))
    settings = {name: getattr(args, name) for name in ("documents", "load", "seconds", "requests", "rounds")}
    settings["data"] = f"{args.data.parent.name}/{args.data.name.split('.')[0]}"
    command = command_line("benchmarks.explain", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {"model": artifact.model_id, "settings": settings, **result})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
