"""Soft labels without a judge: an embedding model's cosine for any query with any document.

    python -m training.similarity CONFIG --data-dir DIR --out FILE.jsonl.gz

A sentence encoder that saw a billion pairs knows which of two texts is nearer to a query, in any domain. For
each query (real ones, spans cut out of documents, dictionary lemmas) the run draws its own document, near
neighbours and strangers, and labels each pair with P(grade | cosine), a proportional-odds model

    P(grade > k | c) = sigmoid(a c - b_k)            (McCullagh 1980; a > 0, b_1 < b_2 < ...)

fitted on graded training pairs, as many from each file, and as many strangers: the query of one pair with the
document of another, grade 0. (A judged pool holds near misses only; without strangers the fit would not know
that unrelated texts are irrelevant.) No test file takes part.
"""

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from modeling.loading import resolve_model_path
from training.config import SimilarityConfig, SimilaritySource
from training.data import DataError, open_lines, read_pairs

FloatArray = NDArray[np.float32]


class Embedder:
    """Mean-pooled, unit-length sentence embeddings of a BERT-like encoder."""

    def __init__(self, model_path: str, max_tokens: int = 192) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model_path)
        self._model = AutoModel.from_pretrained(model_path, dtype=torch.float32).eval()
        self._max_tokens = max_tokens

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch_size: int = 128) -> FloatArray:
        """Embeddings [N, H] of `texts`, in order."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for start in tqdm(range(0, len(order), batch_size), desc="embed", unit="batch", mininterval=10):
            rows = order[start : start + batch_size]
            batch = self._tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = self._model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
            out[rows] = pooled.numpy()
        return out


def fit_proportional_odds(
    cosine: FloatArray, gold: NDArray[np.int64], num_grades: int, num_steps: int = 300
) -> tuple[float, NDArray[np.float64]]:
    """Slope a and thresholds b [K - 1] by maximum likelihood."""
    c, g = torch.tensor(cosine, dtype=torch.float64), torch.tensor(gold)
    log_slope = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    first = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    log_gaps = torch.zeros(num_grades - 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_slope, first, log_gaps], max_iter=num_steps, line_search_fn="strong_wolfe")

    def thresholds() -> torch.Tensor:
        return torch.cat([first[None], first + torch.cumsum(log_gaps.exp(), 0)])

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        above = torch.sigmoid(log_slope.exp() * c[:, None] - thresholds())
        value = -torch.log(_differences(above).gather(1, g[:, None]).clamp_min(1e-12)).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return float(log_slope.detach().exp()), thresholds().detach().numpy()


def _differences(above: torch.Tensor) -> torch.Tensor:
    ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
    return torch.cat([ones, above], 1) - torch.cat([above, zeros], 1)


def grade_probabilities(cosine: FloatArray, slope: float, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(grade | cosine), [N, K]."""
    above = torch.sigmoid(slope * torch.tensor(cosine, dtype=torch.float64)[:, None] - torch.tensor(thresholds))
    return np.asarray(_differences(above).numpy())


def _read_wordnet(folder: Path) -> list[tuple[str, str]]:
    """(lemmas, gloss) of every noun, verb, adjective and adverb synset of a WordNet `dict` folder."""
    entries: list[tuple[str, str]] = []
    for part in ("noun", "verb", "adj", "adv"):
        path = folder / f"data.{part}"
        if not path.is_file():
            raise DataError(f"{path}: no such file (Debian's wordnet-base, or wordnet.princeton.edu)")
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split(" ")
            words = [fields[4 + 2 * i].split("(")[0].replace("_", " ") for i in range(int(fields[3], 16))]
            entries.append((", ".join(words[:3]), gloss.strip()))
    return entries


def _span(text: str, rng: random.Random) -> str:
    words = text.split()
    length = min(rng.choice((2, 3, 3, 4, 5, 6, 8)), len(words))
    start = rng.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length]).strip(".,;:!?()\"'")


def _texts(
    source: SimilaritySource, data_dir: Path, rng: random.Random
) -> tuple[list[tuple[str, int | None]], list[str]]:
    """Queries, each with the index of the document it came from, and documents."""
    queries: dict[str, int | None] = {}
    if source.kind == "wordnet":
        entries = _read_wordnet(Path(source.path))
        rng.shuffle(entries)
        documents = [
            f"{words}: {gloss}" if rng.random() < 0.5 else gloss for words, gloss in entries[: source.max_queries]
        ]
        for index, (words, _) in enumerate(entries[: source.max_queries]):
            lemma = words.split(", ")[0]
            queries.setdefault(f"what is {lemma}" if rng.random() < 0.2 else lemma, index)
    else:
        rows = [json.loads(line) for line in open_lines(data_dir / source.path)]
        documents = list(dict.fromkeys(" ".join(r["document"].split()[: source.max_document_words]) for r in rows))
        for row in rows:
            queries.setdefault(row["query"], None)
    spans = [(_span(text, rng), index) for index, text in enumerate(documents) for _ in range(source.num_spans)]
    for span, origin in spans:
        if len(span) > 3:
            queries.setdefault(span, origin)
    chosen = list(queries.items())
    rng.shuffle(chosen)
    return chosen[: source.max_queries], documents


def label_source(
    source: SimilaritySource, data_dir: Path, embedder: Embedder, top: int, rng: random.Random
) -> tuple[list[tuple[str, str]], FloatArray]:
    """Drawn (query, document) pairs of one source and their cosines."""
    queries, documents = _texts(source, data_dir, rng)
    query_vectors, document_vectors = embedder.embed([q for q, _ in queries]), embedder.embed(documents)
    pairs: list[tuple[str, str]] = []
    cosines: list[float] = []
    for start in tqdm(range(0, len(queries), 512), desc=f"pair {source.path}", mininterval=10):
        similarity = query_vectors[start : start + 512] @ document_vectors.T
        near = np.argpartition(-similarity, min(top, len(documents) - 1), axis=1)[:, :top]
        for row, (query, origin) in enumerate(queries[start : start + 512]):
            drawn = set(rng.sample(near[row].tolist(), min(source.neighbours, near.shape[1])))
            drawn.update(rng.randrange(len(documents)) for _ in range(source.strangers))
            if origin is not None:
                drawn.add(origin)
            pairs += [(query, documents[i]) for i in sorted(drawn)]
            cosines += [float(similarity[row, i]) for i in sorted(drawn)]
    return pairs, np.array(cosines, dtype=np.float32)


def cosines_of(pairs: Iterable[tuple[str, str]], embedder: Embedder) -> FloatArray:
    """Cosine of each (query, document), [N]; every distinct text is embedded once."""
    listed = list(pairs)
    texts = list(dict.fromkeys(text for pair in listed for text in pair))
    index = {text: i for i, text in enumerate(texts)}
    vectors = embedder.embed(texts)
    left, right = (vectors[[index[pair[side]] for pair in listed]] for side in (0, 1))
    return np.asarray((left * right).sum(1), dtype=np.float32)


def calibration_pairs(
    config: SimilarityConfig, data_dir: Path, embedder: Embedder, num_grades: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Cosines and gold grades of graded pairs, equally many of each file, and of as many strangers."""
    rng = random.Random(config.seed)
    pairs: list[tuple[str, str]] = []
    gold: list[int] = []
    for name in config.calibration:
        rows = read_pairs(data_dir / name, num_grades)
        graded = rng.sample(rows, min(config.calibration_rows, len(rows)))
        known = {(pair.query, pair.document) for pair in rows}
        strangers = [(rng.choice(graded).query, rng.choice(graded).document) for _ in graded]
        strangers = [pair for pair in strangers if pair not in known]
        pairs += [(pair.query, pair.document) for pair in graded] + strangers
        gold += [pair.grade for pair in graded] + [0] * len(strangers)
    return cosines_of(pairs, embedder), np.array(gold, dtype=np.int64)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the soft-labelled pairs of a configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-grades", type=int, default=4)
    args = parser.parse_args(argv)
    config = SimilarityConfig.from_toml(args.config)
    rng = random.Random(config.seed)
    embedder = Embedder(resolve_model_path(config.labeller))

    cosines, gold = calibration_pairs(config, args.data_dir, embedder, args.num_grades)
    slope, thresholds = fit_proportional_odds(cosines, gold, args.num_grades)
    print(f"P(grade > k | c) = sigmoid({slope:.3f} c - b_k), b = {np.round(thresholds, 3).tolist()}", flush=True)

    temporary = args.out.with_name(args.out.name + ".part")
    count = 0
    with gzip.open(temporary, "wt", encoding="utf-8") as out:
        for source in config.sources:
            pairs, cosine = label_source(source, args.data_dir, embedder, config.top, rng)
            distributions = grade_probabilities(cosine, slope, thresholds)
            for (query, document), similarity, row in zip(pairs, cosine, distributions, strict=True):
                label = {"query": query, "document": document, "similarity": round(float(similarity), 4)}
                out.write(json.dumps({**label, "distribution": [round(p, 5) for p in row.tolist()]}) + "\n")
            count += len(pairs)
    temporary.rename(args.out)
    print(json.dumps({"pairs": count, "slope": slope, "thresholds": thresholds.tolist()}))


if __name__ == "__main__":
    main()
