"""Packed scoring against one pair at a time and padded batches: same graph, same weights, one run, as ratios.

    python -m benchmarks.engine [--artifact artifacts/default] [--pairs FILE.jsonl.gz] [--out results/bench_engine.json]

Four ways to score the D documents of one query, interleaved within each round so that a noisy machine disturbs
all alike; the figure of a way is its median over rounds, and what is compared are ratios to `packed`:

    packed      the query's prefix prefilled once, documents packed behind its KV (what the service does)
    packed_warm the same with the prefix's KV already held
    one_by_one  the whole prompt of one pair per run
    padded      whole prompts, padded to the longest of a batch of as many padded tokens as a pack

Documents are real ones from `--pairs`, or built from a word list of three lengths when no file is given. Every
way must agree with `packed` on the grades' probabilities, or there is nothing to compare: the largest
difference is part of the result.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from engine.base import DocumentWork, PrefixKV
from engine.devices import Device
from engine.opening import open_engine
from engine.packing import DEFAULT_PACK_TOKENS, plan_packs
from relevance.artifact import Artifact, load_artifact
from relevance.prompt import EncodedPrefix
from relevance.provenance import command_line, write_result
from relevance.scoring import grade_distribution
from training.data import open_lines

WORDS = [
    "steel",
    "wood",
    "lamp",
    "cable",
    "garden",
    "white",
    "black",
    "large",
    "small",
    "water",
    "filter",
    "door",
    "light",
    "tool",
    "paint",
    "kitchen",
    "storage",
    "battery",
    "wall",
    "outdoor",
    "plastic",
    "cover",
    "handle",
    "metal",
    "glass",
    "panel",
    "inch",
    "pack",
    "heavy",
    "duty",
    "wireless",
]
LENGTHS = {"short": 10, "medium": 55, "long": 200}


@dataclass(frozen=True, slots=True)
class Workload:
    """One query and its documents, encoded."""

    name: str
    prefix: EncodedPrefix
    documents: list[tuple[int, ...]]

    @property
    def num_tokens(self) -> int:
        """Tokens of the packed form: the prefix once and every document segment."""
        return len(self.prefix.ids) + sum(len(ids) for ids in self.documents)


class Ways:
    """The ways to score a workload, each a function from workload to label logits [D, K]."""

    def __init__(self, artifact: Artifact, num_threads: int, pack_tokens: int, device: Device = "auto") -> None:
        self._engine = open_engine(artifact, device, num_threads=num_threads)
        self._padding = artifact.tokenizer.encode_literal(artifact.manifest.spec.template.suffix)[-1]
        self._pack_tokens = pack_tokens
        self._held: dict[str, PrefixKV] = {}

    def packed(self, workload: Workload) -> NDArray[np.float32]:
        """Prefix once, documents packed."""
        (held,) = self._engine.prefill_prefixes([workload.prefix.ids])
        self._held[workload.name] = held
        return self._documents(workload, held)

    def packed_warm(self, workload: Workload) -> NDArray[np.float32]:
        """Documents packed behind a prefix already held."""
        return self._documents(workload, self._held[workload.name])

    def _documents(self, workload: Workload, held: PrefixKV) -> NDArray[np.float32]:
        packs = plan_packs([len(ids) for ids in workload.documents], self._pack_tokens)
        work = [DocumentWork(held, ids) for ids in workload.documents]
        return np.concatenate([self._engine.score_documents([work[i] for i in pack]) for pack in packs])

    def one_by_one(self, workload: Workload) -> NDArray[np.float32]:
        """Prefix and document of one pair after the other, nothing shared."""
        rows = []
        for ids in workload.documents:
            (prefix,) = self._engine.prefill_prefixes([workload.prefix.ids])
            rows.append(self._engine.score_documents([DocumentWork(prefix, ids)]))
        return np.concatenate(rows)

    def padded(self, workload: Workload) -> NDArray[np.float32]:
        """Batches of B prompts as a padded [B, L] tensor would have them, in the order given, of a pack's size.

        A prefix is computed for every document, and behind a document shorter than its batch's longest lie as many
        tokens as padding would be.
        """
        return np.concatenate([self._padded_batch(workload.prefix.ids, batch) for batch in self._batches(workload)])

    def _padded_batch(self, prefix: tuple[int, ...], batch: list[tuple[int, ...]]) -> NDArray[np.float32]:
        prefixes = self._engine.prefill_prefixes([prefix] * len(batch))
        longest = max(map(len, batch))
        work: list[DocumentWork] = []
        read: list[int] = []
        for held, ids in zip(prefixes, batch, strict=True):
            read.append(len(work))
            work.append(DocumentWork(held, ids))
            if len(ids) < longest:
                work.append(DocumentWork(held, (self._padding,) * (longest - len(ids))))
        return self._engine.score_documents(work)[read]

    def _batches(self, workload: Workload) -> list[list[tuple[int, ...]]]:
        batches: list[list[tuple[int, ...]]] = []
        longest = 0
        for ids in workload.documents:
            longest = max(longest, len(ids))
            if not batches or (len(batches[-1]) + 1) * (len(workload.prefix.ids) + longest) > self._pack_tokens:
                batches.append([])
                longest = len(ids)
            batches[-1].append(ids)
        return batches


def build_workloads(artifact: Artifact, counts: Sequence[int], pairs: Path | None) -> list[Workload]:
    """Workloads of each document count: of each built-in length, or from a pair file."""
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)
    rng = random.Random(0)
    drawn: dict[str, list[str]] = {}
    if pairs is not None:
        with open_lines(pairs) as lines:
            documents = sorted({str(json.loads(line)["document"]) for line in lines})
        drawn[pairs.parent.name] = rng.choices(documents, k=max(counts))
    else:
        for name, mean in LENGTHS.items():
            lengths = [max(3, round(rng.gauss(mean, mean / 3))) for _ in range(max(counts))]
            drawn[name] = [" ".join(rng.choices(WORDS, k=length)) for length in lengths]
    prefix = encoder.encode_prefix("outdoor wall light with battery")
    return [
        Workload(f"{name} x {count}", prefix, [d.ids for d in encoder.encode_documents(prefix, texts[:count])])
        for name, texts in drawn.items()
        for count in counts
    ]


Way = Callable[[Workload], NDArray[np.float32]]


def measure(ways: Mapping[str, Way], workload: Workload, num_rounds: int) -> dict[str, Any]:
    """Median seconds of each way over interleaved rounds, ratios to `packed`, and how far the ways agree."""
    distributions = {name: grade_distribution(way(workload)) for name, way in ways.items()}  # also the warm-up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(workload)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "workload": workload.name,
        "num_documents": len(workload.documents),
        "num_tokens": workload.num_tokens,
        "median_ms": {name: round(1e3 * value, 3) for name, value in medians.items()},
        "ratio_to_packed": {name: round(value / medians["packed"], 3) for name, value in medians.items()},
        "packed_tokens_per_s": round(workload.num_tokens / medians["packed"]),
        "largest_difference": {
            name: float(np.abs(found - distributions["packed"]).max()) for name, found in distributions.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--pairs", type=Path, help="draw documents from this file")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 16, 100])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pack-tokens", type=int, default=DEFAULT_PACK_TOKENS)
    parser.add_argument("--device", choices=get_args(Device), default="auto")
    parser.add_argument("--out", type=Path, default=Path("results/bench_engine.json"))
    args = parser.parse_args(argv)
    artifact = load_artifact(args.artifact)
    ways = Ways(artifact, args.threads, args.pack_tokens, args.device)
    named = {way.__name__: way for way in (ways.packed, ways.packed_warm, ways.one_by_one, ways.padded)}
    rows = []
    for workload in build_workloads(artifact, args.counts, args.pairs):
        row = measure(named, workload, args.rounds)
        rows.append(row)
        print(f"{row['workload']:<14} {row['num_tokens']:>6} tokens  {row['median_ms']}  {row['ratio_to_packed']}")
    settings = {name: getattr(args, name) for name in ("threads", "pack_tokens", "device", "rounds")}
    command = command_line("benchmarks.engine", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, {"model": artifact.model_id, "settings": settings, "rows": rows})
    ratios = {row["workload"]: row["ratio_to_packed"] for row in rows}
    print(json.dumps({"model": artifact.model_id, "ratio_to_packed": ratios}))


if __name__ == "__main__":
    main()
