"""How near the engine comes to the machine's int8 products: a Qwen3 artifact's prefill beside its products alone.

    python -m model_export.random_checkpoint SCRATCH/checkpoint --tokenizer tokenizer.json      # once; docs/export.md
    python -m model_export SCRATCH/checkpoint SCRATCH/int8 --num-parity-pairs 16 --threshold int8.kendall_tau=-1
    python -m benchmarks.limit --artifact SCRATCH/int8 [--quick] [--out results/limit.json]

    share = seconds of the products alone / seconds of the engine            of the same packs, median over rounds

Both run in ONNX Runtime, with as many threads, and are interleaved within each round, so that a noisy machine disturbs
both alike. Packs of 128, 256 and 512 tokens (documents of 64 behind one prefix), and three workloads of one query each,
its prefix included. On packs of 128 other ways to use the threads, too: `spinning`, idle threads of an operator wait
in a loop; `apart`, two packs at once, a thread each; and each product by PyTorch (oneDNN) where that is installed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine import Workload, build_workloads
from benchmarks.product_graph import Products
from engine.base import DocumentWork
from engine.ort import OrtEngine
from engine.packing import DEFAULT_PACK_TOKENS, plan_packs
from engine.session import GraphSession
from relevance.artifact import Artifact, load_artifact
from relevance.provenance import command_line, write_result

PACK_TOKENS = (128, 256, 512)
DOCUMENT_TOKENS = 64
WORKLOADS = ("short x 100", "medium x 30", "long x 10")
QUICK_WORKLOADS = ("short x 3", "medium x 1", "long x 1")

Way = Callable[[], object]


class Bench:
    """The engine and the products of one artifact."""

    def __init__(self, artifact: Artifact, num_threads: int) -> None:
        self._artifact = artifact
        self._num_threads = num_threads
        self.engine = OrtEngine(artifact, num_threads=num_threads)
        self.products = Products(artifact, num_threads=num_threads)
        self._prefix = build_workloads(artifact, [1], None)[0].prefix.ids

    def pack(self, engine: OrtEngine, num_tokens: int) -> Way:
        """One pack of equal documents behind a prefix that is held."""
        return partial(engine.score_documents, self._work(engine, num_tokens))

    def _work(self, engine: OrtEngine, num_tokens: int) -> list[DocumentWork]:
        (held,) = engine.prefill_prefixes([self._prefix])
        rng = np.random.default_rng(1)
        ids = rng.integers(
            0, self._artifact.manifest.graph.vocab_size, (num_tokens // DOCUMENT_TOKENS, DOCUMENT_TOKENS)
        )
        return [DocumentWork(held, tuple(row)) for row in ids.tolist()]

    def products_of(self, packs: Sequence[tuple[int, int]]) -> Way:
        """The products of packs of (tokens, tokens read), one after the other."""
        feeds = [self.products.feed(*pack) for pack in packs]

        def run() -> None:
            for feed in feeds:
                self.products.run(feed)

        return run

    def workload(self, workload: Workload, pack_tokens: int) -> tuple[Way, list[tuple[int, int]]]:
        """A whole workload, and the packs it is computed in; the prefix is one, of which all tokens are read."""
        lengths = [len(ids) for ids in workload.documents]
        plan = plan_packs(lengths, pack_tokens)
        prefix = workload.prefix.ids

        def run() -> None:
            (held,) = self.engine.prefill_prefixes([prefix])
            work = [DocumentWork(held, ids) for ids in workload.documents]
            for pack in plan:
                self.engine.score_documents([work[index] for index in pack])

        # A prefix is read at its last token, for logits that nobody asks for.
        return run, [(len(prefix), 1), *((sum(lengths[i] for i in pack), len(pack)) for pack in plan)]

    def others(self, num_tokens: int) -> dict[str, tuple[Way, int]]:
        """Other ways to use the threads for packs of `num_tokens`: what to run, and how many packs that is."""
        session = GraphSession(self._artifact, num_threads=self._num_threads, allow_spinning=True)
        spinning = OrtEngine(self._artifact, session=session)
        single = OrtEngine(self._artifact, session=GraphSession(self._artifact, num_threads=1))
        work, pool = self._work(single, num_tokens), ThreadPoolExecutor(self._num_threads)

        def apart() -> None:
            list(pool.map(single.score_documents, [work] * self._num_threads))

        return {"spinning": (self.pack(spinning, num_tokens), 1), "apart": (apart, self._num_threads)}


def torch_products(num_threads: int, weights: Sequence[tuple[int, int]], num_tokens: int) -> Way | None:
    """Products [num_tokens, C] x [C, J] of each (C, J) in turn by PyTorch's int8 product; None without PyTorch."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return None
    torch.set_num_threads(num_threads)
    made = [torch.randint(-99, 99, shape, dtype=torch.int8) for shape in weights]
    rows = {shape[0]: torch.randint(-99, 99, (num_tokens, shape[0]), dtype=torch.int8) for shape in weights}

    def run() -> None:
        for weight in made:
            torch._int_mm(rows[weight.shape[0]], weight)

    return run


def interleaved(ways: Mapping[str, Way], num_rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(num_rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def figures(seconds: Mapping[str, Sequence[float]], num_tokens: int, num_operations: int) -> dict[str, Any]:
    """Rates and share of `engine` and `products`, the medians over rounds."""
    engine, products = (statistics.median(seconds[name]) for name in ("engine", "products"))
    shares = [p / e for p, e in zip(seconds["products"], seconds["engine"], strict=True)]
    return {
        "num_tokens": num_tokens,
        "engine_tokens_per_s": round(num_tokens / engine),
        "limit_tokens_per_s": round(num_tokens / products),
        "limit_gops": round(num_operations / products / 1e9),
        "share": round(statistics.median(shares), 3),
        "share_range": [round(min(shares), 3), round(max(shares), 3)],
    }


def measure_pack(bench: Bench, num_tokens: int, num_rounds: int) -> dict[str, Any]:
    """Engine and products on one pack."""
    num_read = num_tokens // DOCUMENT_TOKENS
    ways = {"engine": bench.pack(bench.engine, num_tokens), "products": bench.products_of([(num_tokens, num_read)])}
    operations = bench.products.num_operations(num_tokens, num_read)
    return {"pack": num_tokens, **figures(interleaved(ways, num_rounds), num_tokens, operations)}


def measure_workload(bench: Bench, workload: Workload, pack_tokens: int, num_rounds: int) -> dict[str, Any]:
    """Engine and products on one workload."""
    run, packs = bench.workload(workload, pack_tokens)
    operations = sum(bench.products.num_operations(*pack) for pack in packs)
    seconds = interleaved({"engine": run, "products": bench.products_of(packs)}, num_rounds)
    return {"workload": workload.name, "packs": len(packs), **figures(seconds, workload.num_tokens, operations)}


def measure_others(bench: Bench, num_threads: int, num_tokens: int, num_rounds: int) -> dict[str, Any]:
    """Tokens a second of other ways to use the threads, and G op/s of the same products by PyTorch."""
    found = bench.others(num_tokens)
    ways = {"engine": bench.pack(bench.engine, num_tokens), **{name: way for name, (way, _) in found.items()}}
    torch_way = torch_products(num_threads, bench.products.shapes, num_tokens)
    if torch_way is not None:
        ways["torch"] = torch_way
    medians = {name: statistics.median(values) for name, values in interleaved(ways, num_rounds).items()}
    packs = {"engine": 1, **{name: count for name, (_, count) in found.items()}}
    rates = {f"{name}_tokens_per_s": round(count * num_tokens / medians[name]) for name, count in packs.items()}
    if torch_way is None:
        return {"pack": num_tokens, **rates}
    operations = 2 * num_tokens * sum(size * width for size, width in bench.products.shapes)
    return {"pack": num_tokens, **rates, "torch_products_gops": round(operations / medians["torch"] / 1e9)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print rows, write a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, required=True, help="Qwen3 at int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pack-tokens", type=int, default=DEFAULT_PACK_TOKENS, help="of the workloads")
    parser.add_argument("--quick", action="store_true", help="small workloads, two rounds: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("results/limit.json"))
    args = parser.parse_args(argv)
    artifact = load_artifact(args.artifact)
    num_rounds, names = (2, QUICK_WORKLOADS) if args.quick else (args.rounds, WORKLOADS)
    bench = Bench(artifact, args.threads)
    packs, workloads = [], []
    for num_tokens in PACK_TOKENS:
        packs.append(measure_pack(bench, num_tokens, num_rounds))
        print(packs[-1], flush=True)
    counts = sorted({int(name.split()[-1]) for name in names})
    for workload in build_workloads(artifact, counts, None):
        if workload.name in names:
            workloads.append(measure_workload(bench, workload, args.pack_tokens, num_rounds))
            print(workloads[-1], flush=True)
    others = measure_others(bench, args.threads, PACK_TOKENS[0], num_rounds)
    print(others, flush=True)
    figures_of = {
        "model": {"name": artifact.manifest.name, "layers": artifact.manifest.graph.num_layers},
        "num_weights": bench.products.num_weights,
        "settings": {"threads": args.threads, "pack_tokens": args.pack_tokens, "rounds": num_rounds},
        "packs": packs,
        "workloads": workloads,
        "others": others,
    }
    command = command_line("benchmarks.limit", sys.argv[1:] if argv is None else argv)
    write_result(args.out, command, figures_of, ("numpy", "onnxruntime", "torch"))
    shares = {str(row.get("workload") or row.get("pack")): row["share"] for row in (*packs, *workloads)}
    print(json.dumps({"model": artifact.manifest.name, "share": shares}))


if __name__ == "__main__":
    main()
