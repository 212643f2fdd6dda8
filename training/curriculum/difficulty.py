"""How hard each row is for a trained checkpoint.

    confidence  sum_k t_k p_k: what the checkpoint gives the gold grade (t: the row's target, p: the distribution)
    difficulty  1 - confidence
    margin      confidence in the likeliest gold grade less that in the best other grade; below 0 the row is got wrong

A row is of the long tail if its grade is rare in its file, or if a rule applies to it that is rare there.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modeling.loading import load_model, load_tokenizer, resolve_model_path
from relevance.scoring import grade_distribution
from relevance.spec import SPEC_FILE, ScoringSpec
from training.curriculum.config import CurriculumConfig
from training.data import LabelledPair, encode_pairs, read_pairs
from training.rules.book import RuleBook
from training.rules.figures import applicability
from training.scorer import CheckpointScorer


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """A row with where it stands and how hard it is."""

    pair: LabelledPair
    file: str
    line: int
    is_synthetic: bool
    confidence: float
    margin: float
    is_long_tail: bool

    @property
    def difficulty(self) -> float:
        """1 - confidence."""
        return 1.0 - self.confidence


def confidence_and_margin(
    distribution: ArrayLike, targets: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Confidence [N] and margin [N] of distributions [N, K] at targets [N, K]."""
    p, t = np.asarray(distribution, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    rows, gold = np.arange(len(p)), t.argmax(axis=1)
    others = p.copy()
    others[rows, gold] = -np.inf
    return (p * t).sum(axis=1), p[rows, gold] - others.max(axis=1)


def long_tail(book: RuleBook, pairs: Sequence[LabelledPair], rare_rule: float, rare_grade: float) -> NDArray[np.bool_]:
    """Which pairs of one file are of the long tail, [N]."""
    applies = applicability(book, [(pair.query, pair.document) for pair in pairs])
    share = applies.mean(axis=0)
    rare = applies[:, (share > 0.0) & (share < rare_rule)].any(axis=1)
    counts = Counter(pair.grade for pair in pairs)
    return rare | np.array([counts[pair.grade] < rare_grade * len(pairs) for pair in pairs])


def _draw(
    config: CurriculumConfig, data_dir: Path, num_grades: int
) -> list[tuple[str, list[tuple[int, LabelledPair]]]]:
    """Each file with its drawn (line, pair)."""
    drawn = []
    for name in (*config.real, *config.synthetic):
        numbered = list(enumerate(read_pairs(data_dir / name, num_grades), start=1))
        rng = random.Random(f"{config.seed}/measure/{name}")
        drawn.append((name, sorted(rng.sample(numbered, min(config.measured_rows, len(numbered))), key=lambda r: r[0])))
    return drawn


def measure(config: CurriculumConfig, data_dir: Path, path: Path) -> list[MeasuredRow]:
    """Measured rows of all files; `path` keeps the figures, and with it nothing is measured again."""
    base = resolve_model_path(config.measure_with)
    spec = ScoringSpec.from_file(Path(base) / SPEC_FILE)
    drawn = _draw(config, data_dir, spec.scale.num_grades)
    known = _read_figures(path)
    if not known:
        known = [figure for name, rows in drawn for figure in _measure_file(config, base, spec, name, rows)]
        temporary = path.with_name(path.name + ".part")
        temporary.write_text("".join(json.dumps(figure) + "\n" for figure in known), encoding="utf-8")
        temporary.replace(path)
    rows = [(name, line, pair) for name, numbered in drawn for line, pair in numbered]
    return [
        MeasuredRow(
            pair, name, line, name in config.synthetic, figure["confidence"], figure["margin"], figure["long_tail"]
        )
        for (name, line, pair), figure in zip(rows, known, strict=True)
    ]


def _read_figures(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _measure_file(
    config: CurriculumConfig, base: str, spec: ScoringSpec, name: str, rows: list[tuple[int, LabelledPair]]
) -> list[dict[str, Any]]:
    pairs = [pair for _, pair in rows]
    tokenizer = load_tokenizer(base)
    label_token_ids = spec.scale.resolve_label_token_ids(tokenizer)
    scorer = CheckpointScorer(
        load_model(base), spec.attention, label_token_ids, bfloat16=config.precision == "bfloat16"
    )
    examples = encode_pairs(pairs, spec.encoder(tokenizer), None, config.max_document_tokens)
    distribution = grade_distribution(scorer.label_logits(examples), spec.temperature)
    confidence, margin = confidence_and_margin(distribution, [pair.target for pair in pairs])
    tail = long_tail(RuleBook.preset(), pairs, config.rare_rule, config.rare_grade)
    return [
        {
            "file": name,
            "line": line,
            "confidence": round(float(confidence[i]), 5),
            "margin": round(float(margin[i]), 5),
            "long_tail": bool(tail[i]),
        }
        for i, (line, _) in enumerate(rows)
    ]
