"""BM25 candidates from SQLite, reranked by the service: nDCG@10 before and after.

    make serve                                                   # in another terminal
    python examples/bm25_rerank/run.py CORPUS.jsonl.gz --url http://localhost:8080

The corpus is JSON lines with `query`, `document` and `grade` (a whole number, 0 is not relevant). All its documents
are indexed; each query fetches its best candidates of the whole index by BM25 (SQLite's FTS5, Porter stemming), the
service puts them into a new order, and both orders are judged by the grades, where a document that was never judged
for a query counts 0. Only Python's standard library is needed. The last line printed is JSON.
"""

import argparse
import gzip
import json
import math
import re
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

DEPTH = 10


def read_rows(path: Path) -> Iterator[dict[str, object]]:
    """Rows of a JSONL file, gzipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def read_grades(path: Path) -> dict[str, dict[str, int]]:
    """Grade of each judged document, by query."""
    grades: dict[str, dict[str, int]] = {}
    for row in read_rows(path):
        grades.setdefault(str(row["query"]), {})[str(row["document"])] = int(str(row["grade"]))
    return grades


class Bm25Index:
    """A full-text index in memory."""

    def __init__(self, documents: Sequence[str]) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("CREATE VIRTUAL TABLE documents USING fts5(text, tokenize='porter unicode61')")
        self._connection.executemany("INSERT INTO documents VALUES (?)", ((text,) for text in documents))

    def search(self, query: str, limit: int) -> list[str]:
        """The `limit` best documents that share a word with `query`, best first."""
        # Each word is quoted: FTS5 has operators, and a query is text.
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        if not words:
            return []
        # bm25() is lower for a better document; ties fall back to the order of insertion.
        found = self._connection.execute(
            "SELECT text FROM documents WHERE documents MATCH ? ORDER BY bm25(documents), rowid LIMIT ?", (words, limit)
        )
        return [text for (text,) in found]


def rerank(url: str, query: str, documents: Sequence[str]) -> list[str]:
    """`documents` in the order of the service."""
    body = json.dumps({"query": query, "documents": documents}).encode()
    request = urllib.request.Request(f"{url}/v2/rerank", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        results = json.load(response)["results"]
    return [documents[result["index"]] for result in results]


def ndcg(ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """nDCG@10 of a ranking: gain = grade, over the best order of all documents judged for the query."""

    def dcg(gains: Sequence[int]) -> float:
        return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:DEPTH]))

    ideal = dcg(sorted(grades.values(), reverse=True))
    return dcg([grades.get(document, 0) for document in ranking]) / ideal if ideal else 0.0


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def main(arguments: Sequence[str]) -> int:
    """Measure both orders of every query that has a relevant document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="JSON lines with query, document, grade; .gz is unpacked")
    parser.add_argument("--url", default="http://localhost:8080", help="where the service is")
    parser.add_argument("--candidates", type=int, default=100, help="documents that BM25 hands over for each query")
    options = parser.parse_args(arguments)

    grades = {query: judged for query, judged in read_grades(options.corpus).items() if any(judged.values())}
    if not grades:
        print(f"{options.corpus}: no query has a document with a grade above 0", file=sys.stderr)
        return 1
    documents = list(dict.fromkeys(str(row["document"]) for row in read_rows(options.corpus)))
    index = Bm25Index(documents)
    before: list[float] = []
    after: list[float] = []
    seconds: list[float] = []
    for query, judged in grades.items():
        candidates = index.search(query, options.candidates)
        started_at = time.perf_counter()
        reranked = rerank(options.url, query, candidates) if candidates else []
        seconds.append(time.perf_counter() - started_at)
        before.append(ndcg(candidates, judged))
        after.append(ndcg(reranked, judged))
        print(f"{before[-1]:.3f} -> {after[-1]:.3f}  {query[:90]}")
    print(f"{mean(before):.3f} -> {mean(after):.3f}  mean nDCG@{DEPTH} of {len(grades)} queries")
    summary = {
        "num_queries": len(grades),
        "num_documents": len(documents),
        "num_candidates": options.candidates,
        "bm25_ndcg_at_10": round(mean(before), 4),
        "reranked_ndcg_at_10": round(mean(after), 4),
        "mean_rerank_ms": round(1000 * mean(seconds), 1),
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
