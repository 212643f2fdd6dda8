"""Texts to ask a service about: from a file of pairs, or made up; no two requests alike, so that no cache answers."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engine import WORDS
from training.data import open_lines

MEAN_WORDS = 25


class Texts:
    """An endless supply of queries and documents."""

    def __init__(self, pairs: Path | None, seed: int = 0) -> None:
        """Texts of `pairs`, or made of a word list where it is None."""
        self._random = random.Random(seed)
        self._number = 0
        self._documents: list[str] = []
        self._queries: list[str] = []
        if pairs is not None:
            with open_lines(pairs) as lines:
                rows = [json.loads(line) for line in lines]
            self._documents = sorted({str(row["document"]) for row in rows})
            self._queries = sorted({str(row["query"]) for row in rows})

    def request(self, num_documents: int) -> dict[str, Any]:
        """A body of POST /score that has not been given out before."""
        self._number += 1
        documents = [f"{self._document()} {self._number}-{place}" for place in range(num_documents)]
        return {"query": f"{self._query()} {self._number}", "documents": documents}

    def requests(self, num_documents: int) -> Iterator[dict[str, Any]]:
        """As many as one takes."""
        while True:
            yield self.request(num_documents)

    def _document(self) -> str:
        if self._documents:
            return self._random.choice(self._documents)
        length = max(3, round(self._random.lognormvariate(0, 0.5) * MEAN_WORDS))
        return " ".join(self._random.choices(WORDS, k=length))

    def _query(self) -> str:
        return self._random.choice(self._queries) if self._queries else " ".join(self._random.choices(WORDS, k=3))
