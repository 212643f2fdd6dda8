"""Request number n of a run: a function of the plan, its seed, the run's mark and n.

fresh     query and documents end in the run's mark and the request's number, so that no cache has them, not even
          that of a service on which the same plan was run before
repeated  one of `cached_requests` requests, the same each time: what the service keeps answers them after the first
"""

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from loadtest.plan import InvalidPlanError, Mix

# Lengths matter to a service, meaning does not; words of many lengths, so that tokens per word are as in product texts.
_VOCABULARY = """
usb c cable braided two metre fast charging black wool socks pack of three hiking waterproof jacket size
medium stainless steel kettle 1.7 litre cordless drill 18 V with battery replacement filter for vacuum cleaner
garden hose connector brass LED bulb warm white dimmable E27 running shoes women lightweight breathable mesh
office chair ergonomic adjustable lumbar support how to remove a stripped screw symptoms treatment of seasonal
allergies
"""
WORDS = _VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it will be sent."""

    number: int
    path: str
    content: bytes
    num_documents: int
    is_explained: bool = False
    hang_up_s: float | None = None


class Requests:
    """The requests of a plan."""

    def __init__(self, mix: Mix, slo_ms: float, seed: int, mark: str = "") -> None:
        """Read the texts.

        Raises:
            InvalidPlanError: the file of pairs cannot be read, or holds none.
        """
        self._mix = mix
        self._slo_s = slo_ms / 1000
        self._seed = seed
        self._mark = mark
        self._sizes = list(mix.documents)
        self._weights = list(mix.documents.values())
        self._queries: list[str] = []
        self._documents: list[str] = []
        if mix.pairs is not None:
            self._queries, self._documents = _read_pairs(mix.pairs)

    def request(self, number: int, has_deadline: bool = True) -> Request:
        """Request `number`, with the mix's deadline or with none."""
        rng = random.Random(f"{self._seed}/{number}")
        is_repeated = rng.random() < self._mix.cached_share
        is_explained = rng.random() < self._mix.explain_share
        is_partial = rng.random() < self._mix.partial_share
        hang_up_s = rng.uniform(0.0, self._slo_s) if rng.random() < self._mix.hang_up_share else None
        if is_repeated:
            body = self._repeated(rng.randrange(self._mix.cached_requests))
        else:
            body = self._texts(rng, str(number))
        if is_explained:
            body["explain"] = True
        if has_deadline and self._mix.timeout_ms is not None:
            body["timeout_ms"] = self._mix.timeout_ms
            if is_partial:
                body["partial"] = True
        size = len(body["documents"])
        return Request(number, self._mix.path, orjson.dumps(body), size, is_explained, hang_up_s)

    def repeated(self) -> Iterator[Request]:
        """Every request that is asked again and again, once, without a deadline."""
        if self._mix.cached_share > 0.0:
            for which in range(self._mix.cached_requests):
                body = self._repeated(which)
                yield Request(-1, self._mix.path, orjson.dumps(body), len(body["documents"]))

    def _repeated(self, which: int) -> dict[str, Any]:
        return self._texts(random.Random(f"{self._seed}/repeated/{which}"), f"r{which}")

    def _texts(self, rng: random.Random, mark: str) -> dict[str, Any]:
        (size,) = rng.choices(self._sizes, self._weights)
        query = rng.choice(self._queries) if self._queries else " ".join(rng.choices(WORDS, k=self._mix.query_words))
        documents = [f"{self._document(rng)} {self._mark}{mark}-{place}" for place in range(size)]
        return {"query": f"{query} {self._mark}{mark}", "documents": documents}

    def _document(self, rng: random.Random) -> str:
        if self._documents:
            return rng.choice(self._documents)
        length = rng.lognormvariate(0.0, self._mix.document_words_spread) * self._mix.document_words
        return " ".join(rng.choices(WORDS, k=max(1, round(length))))


def _read_pairs(path: Path) -> tuple[list[str], list[str]]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
        queries, documents = {str(row["query"]) for row in rows}, {str(row["document"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidPlanError(f"{path}: no file of pairs (JSON lines with query and document): {error!r}") from error
    if not rows:
        raise InvalidPlanError(f"{path}: holds no pair")
    return sorted(queries), sorted(documents)
