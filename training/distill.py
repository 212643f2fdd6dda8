"""A teacher labels pairs nobody judged: its grade distribution, and for a share of them its explanation.

    python -m training.distill --teacher runs/default/checkpoint --data-dir DIR --pairs similarity.jsonl.gz \
        --rows 100000 --explained 5000 --out DIR/teacher.jsonl

Any query with any document will do. The student then trains on the file as on any other: cross-entropy against the
teacher's distribution is KL(teacher || student) plus a constant, and the teacher's explanations, greedy under the
grammar, are sequences to imitate. The same command goes on where it stopped; a row is written once, whole.

A cross-encoder (a sequence classifier with a class a grade, such as `training.cross_encoder` leaves) can teach grades,
too: it has no spec that says its --temperature, and nothing to say of why.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from modeling.loading import load_model, load_tokenizer
from relevance.explanation import parse
from relevance.grammar import AnswerGrammar
from relevance.scoring import grade_distribution, most_likely_grade
from relevance.spec import SPEC_FILE, ScoringSpec
from training.constrained import decode_explanations
from training.data import DataError, LabelledPair, encode_pairs, open_lines
from training.scorer import CheckpointScorer

CHUNK = 1024
BATCH_ROWS = 128
MAX_DOCUMENT_TOKENS = 192


class Teacher(Protocol):
    """A model that labels."""

    def label(self, texts: Sequence[tuple[str, str]], num_explained: int) -> list[dict[str, Any]]:
        """Rows of (query, document) pairs with the teacher's distribution; the first `num_explained` explained."""
        ...


class AnsweringTeacher:
    """A checkpoint of ours: grades and explanations."""

    def __init__(self, folder: Path) -> None:
        tokenizer = load_tokenizer(str(folder))
        self._spec = ScoringSpec.from_file(folder / SPEC_FILE)
        labels = self._spec.scale.resolve_label_token_ids(tokenizer)
        self._scorer = CheckpointScorer(load_model(str(folder)), self._spec.attention, labels, bfloat16=True)
        self._encoder = self._spec.encoder(tokenizer)
        self._grammar = AnswerGrammar(tokenizer, self._spec.scale)
        self._decode = tokenizer.decode

    def label(self, texts: Sequence[tuple[str, str]], num_explained: int) -> list[dict[str, Any]]:
        """See `Teacher`."""
        nobody = (1.0,) + (0.0,) * (self._spec.scale.num_grades - 1)
        pairs = [LabelledPair(query, document, nobody) for query, document in texts]
        examples = encode_pairs(pairs, self._encoder, None, MAX_DOCUMENT_TOKENS)
        distribution = grade_distribution(self._scorer.label_logits(examples), self._spec.temperature)
        rows = _rows(texts, distribution)
        if num_explained:
            grades = most_likely_grade(distribution).tolist()
            chosen = slice(num_explained)
            explained = decode_explanations(
                self._scorer, self._grammar, pairs[chosen], examples[chosen], grades[chosen]
            )
            for row, ids in zip(rows, explained, strict=False):
                row["explanation"] = parse(self._decode(ids), self._spec.scale).to_json()
        return rows


class CrossEncoderTeacher:
    """A sequence classifier with a class a grade: grades alone."""

    def __init__(self, folder: Path, temperature: float) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self._temperature = temperature

    @torch.inference_mode()
    def label(self, texts: Sequence[tuple[str, str]], num_explained: int) -> list[dict[str, Any]]:
        """See `Teacher`.

        Raises:
            DataError: an explanation is asked for.
        """
        if num_explained:
            raise DataError("--explained: a cross-encoder explains nothing")
        order = sorted(range(len(texts)), key=lambda index: len(texts[index][1]))
        logits = np.zeros((len(texts), self._model.config.num_labels), dtype=np.float64)
        for start in range(0, len(order), BATCH_ROWS):
            chosen = order[start : start + BATCH_ROWS]
            queries, documents = zip(*(texts[index] for index in chosen), strict=True)
            encoded = self._tokenizer(
                list(queries),
                list(documents),
                truncation="only_second",
                max_length=MAX_DOCUMENT_TOKENS,
                padding=True,
                return_tensors="pt",
            )
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits[chosen] = self._model(**encoded).logits.float().numpy()
        return _rows(texts, grade_distribution(logits, self._temperature))


def load_teacher(folder: Path, temperature: float | None) -> Teacher:
    """The teacher in a checkpoint folder.

    Raises:
        DataError: `temperature` is missing for a cross-encoder, or given for a checkpoint that has its own.
    """
    architectures = AutoConfig.from_pretrained(folder).architectures or []
    is_cross_encoder = any(name.endswith("ForSequenceClassification") for name in architectures)
    if is_cross_encoder and temperature is not None:
        return CrossEncoderTeacher(folder, temperature)
    if is_cross_encoder or temperature is not None:
        raise DataError("--temperature: a cross-encoder needs one, any other teacher has its own")
    return AnsweringTeacher(folder)


def _rows(texts: Sequence[tuple[str, str]], distribution: NDArray[np.float64]) -> list[dict[str, Any]]:
    return [
        {"query": query, "document": document, "distribution": [round(float(p), 5) for p in row]}
        for (query, document), row in zip(texts, distribution, strict=True)
    ]


def draw_texts(paths: Sequence[Path], num_rows: int, seed: int) -> list[tuple[str, str]]:
    """`num_rows` different (query, document) pairs of all files, in an order that the seed decides."""
    texts: dict[tuple[str, str], None] = {}
    for path in paths:
        with open_lines(path) as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    texts[str(row["query"]), str(row["document"])] = None
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(f"{path}, line {number}: needs query and document: {error!r}") from error
    if num_rows > len(texts):
        raise DataError(f"{num_rows} rows asked for, the files hold {len(texts)} different pairs")
    return random.Random(seed).sample(list(texts), num_rows)


def finished_rows(part: Path) -> int:
    """Whole rows of an unfinished file; what a killed run left of another is cut off."""
    if not part.is_file():
        return 0
    text = part.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    part.write_bytes(whole)
    return whole.count(b"\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Label from wherever the output stands to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--temperature", type=float, help="of a cross-encoder's logits; any other teacher has its own")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", required=True, help="files with query and document; labels are ignored")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--explained", type=int, default=0, help="how many of the rows get an explanation, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    texts = draw_texts([args.data_dir / name for name in args.pairs], args.rows, args.seed)
    teacher, part = load_teacher(args.teacher, args.temperature), args.out.with_name(args.out.name + ".part")
    done = finished_rows(part)
    with part.open("a", encoding="utf-8") as out, tqdm(total=args.rows, initial=done, unit="row") as progress:
        for start in range(done, args.rows, CHUNK):
            chunk = texts[start : start + CHUNK]
            num_explained = max(0, min(len(chunk), args.explained - start))
            for row in teacher.label(chunk, num_explained):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            progress.update(len(chunk))
    part.replace(args.out)
    print(json.dumps({"rows": args.rows, "explained": min(args.explained, args.rows)}))


if __name__ == "__main__":
    main()
