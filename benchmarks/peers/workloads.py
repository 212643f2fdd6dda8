"""What is asked: a query of a test file and as many of its own documents as wanted, filled up from the file's others.

    short    homedepot/test   product titles
    medium   trecdl/test      passages
    long     medquad/test     answers of two hundred words

Texts are drawn with a seed, so everybody gets the same ones, and no document stands twice in a workload.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data import open_lines


@dataclass(frozen=True, slots=True)
class Workload:
    """One query and documents."""

    name: str
    query: str
    documents: tuple[str, ...]


def read_texts(path: Path) -> dict[str, list[str]]:
    """Documents of each query of a pair file, in the file's order, each once."""
    found: dict[str, dict[str, None]] = {}
    with open_lines(path) as lines:
        for line in lines:
            row = json.loads(line)
            found.setdefault(str(row["query"]), {})[str(row["document"])] = None
    return {query: list(documents) for query, documents in found.items()}


def draw(name: str, texts: dict[str, list[str]], num_documents: int, seed: int) -> Workload:
    """One workload; ValueError where the file has fewer documents."""
    rng = random.Random(seed)
    query = rng.choice(sorted(texts))
    documents = list(texts[query])
    rng.shuffle(documents)
    others = sorted({document for found in texts.values() for document in found} - set(documents))
    missing = num_documents - len(documents)
    if missing > len(others):
        raise ValueError(f"{name}: {len(documents) + len(others)} documents, {num_documents} wanted")
    documents += rng.sample(others, max(0, missing))
    return Workload(name, query, tuple(documents[:num_documents]))


def timed_workloads(files: Sequence[Path], counts: Sequence[int]) -> list[Workload]:
    """One of each file, named `SET xN`."""
    return [
        draw(f"{path.parent.name} x {count}", read_texts(path), count, seed=0)
        for path, count in zip(files, counts, strict=True)
    ]


def graded_workloads(files: Sequence[Path], num_queries: int, num_documents: int) -> list[Workload]:
    """More queries of each file with few documents: pairs to compare grades on, not timed."""
    found = []
    for path in files:
        texts = read_texts(path)
        found += [draw(path.parent.name, texts, num_documents, seed) for seed in range(1, num_queries + 1)]
    return found
