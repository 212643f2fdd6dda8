"""examples/bm25_rerank: a search over a small corpus, reranked by the program."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from relevance.metrics import ndcg
from tests.api.test_program import running

SCRIPT = Path(__file__).parents[2] / "examples" / "bm25_rerank" / "run.py"
DOCUMENTS = {
    "USB cable": 0,
    "USB-C to USB-C cable, 1 m, braided": 3,
    "HDMI cable of two metres with gold plated plugs": 1,
    "a long text on cables that names usb once and then goes on about other things": 2,
}


def run(path: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), str(path), "--url", url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_measures_both_orders(tmp_path: Path) -> None:
    rows = [{"query": 'usb "c" cable*', "document": text, "grade": grade} for text, grade in DOCUMENTS.items()]
    rows += [{"query": "usb cable", "document": "wool socks", "grade": 0}]  # nothing relevant: not measured
    path = tmp_path / "corpus.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    with running() as program:
        finished = run(path, program.url)
        body = {"query": 'usb "c" cable*', "documents": list(DOCUMENTS)}
        results = httpx.post(f"{program.url}/score", json=body).json()["results"]
    assert finished.returncode == 0, finished.stderr
    summary = json.loads(finished.stdout.splitlines()[-1])
    assert (summary["num_queries"], summary["num_documents"]) == (1, 5)
    grades = list(DOCUMENTS.values())
    # BM25 ranks a short text with both words before a long one; rounding to four digits.
    assert summary["bm25_ndcg_at_10"] < 1
    expected = ndcg([result["score"] for result in results], grades)
    assert summary["reranked_ndcg_at_10"] == pytest.approx(expected, abs=1e-4)
    assert f"-> {expected:.3f}" in finished.stdout


def test_a_corpus_without_anything_relevant_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({"query": "q", "document": "d", "grade": 0}) + "\n", encoding="utf-8")
    finished = run(path, "http://localhost:1")
    assert finished.returncode == 1
    assert "no query has a document with a grade above 0" in finished.stderr
