"""Figures of an arm's checkpoint: the grade, the whole answer, and what was forgotten.

Grades are read at the answer's grade token; for reason-first answers after greedy decoding of the reason. Temperature
is fitted on validation pairs and changes the calibration error only. Recall per rule is over equally many pairs of
every rule, so that a rare one counts as well as a common one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from relevance import metrics
from relevance.calibration import fit_temperature
from relevance.errors import ExplanationError
from relevance.explanation import check, parse
from relevance.scoring import expected_score, grade_distribution, most_likely_grade
from training.arms.catalogue import RARE
from training.grpo.answers import AnswerCodec, AnswerPair

_BATCH = 256
MAX_ANSWER_TOKENS = 96


def _left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = pad_sequence([torch.tensor(list(row)) for row in rows], batch_first=True, padding_side="left")
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True, padding_side="left")
    return ids, mask


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in range(0, len(rows), _BATCH):
        yield _left_padded(rows[start : start + _BATCH])


@torch.inference_mode()
def next_label_logits(model: PreTrainedModel, rows: Sequence[Sequence[int]], codec: AnswerCodec) -> NDArray[np.float64]:
    """Label logits [N, K] of the token after each row of ids."""
    model.eval()
    found = [
        model(input_ids=ids, attention_mask=mask, logits_to_keep=1).logits[:, -1, list(codec.label_token_ids)]
        for ids, mask in _batches(rows)
    ]
    return torch.cat(found).double().numpy()


@torch.inference_mode()
def greedy_answers(model: PreTrainedModel, prompts: Sequence[Sequence[int]], codec: AnswerCodec) -> list[list[int]]:
    """Greedy answers with their end token, at most `MAX_ANSWER_TOKENS`."""
    model.eval()
    answers: list[list[int]] = []
    for ids, mask in _batches(prompts):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=MAX_ANSWER_TOKENS,
            do_sample=False,
            eos_token_id=codec.end_id,
            pad_token_id=codec.end_id,
        )
        for row in out[:, ids.shape[1] :].tolist():
            answers.append(row[: row.index(codec.end_id) + 1] if codec.end_id in row else row)
    return answers


def label_logits(model: PreTrainedModel, pairs: Sequence[AnswerPair], codec: AnswerCodec) -> NDArray[np.float64]:
    """Label logits [N, K] where the answer's order has its grade."""
    prompts = [codec.prompt(pair) for pair in pairs]
    if codec.order != "reason_first":
        return next_label_logits(model, prompts, codec)
    reasons = [[t for t in answer if t != codec.end_id][:-1] for answer in greedy_answers(model, prompts, codec)]
    return next_label_logits(model, [p + r for p, r in zip(prompts, reasons, strict=True)], codec)


def grade_figures(
    logits: NDArray[np.float64], pairs: Sequence[AnswerPair], gains: NDArray[np.float64], temperature: float
) -> dict[str, Any]:
    """Figures of the grades of `pairs`."""
    gold = np.array([pair.grade for pair in pairs])
    raw, calibrated = grade_distribution(logits), grade_distribution(logits, temperature)
    said = most_likely_grade(raw)
    scores, queries = expected_score(calibrated), [pair.query for pair in pairs]
    f1 = metrics.f1_per_grade(said, gold, len(gains))
    return {
        **metrics.summary(calibrated, said, scores, gold, queries, gains),
        "ece_before": metrics.expected_calibration_error(raw, gold),
        "grade_entropy": entropy(raw),
        **{f"f1_grade_{grade}": float(value) for grade, value in enumerate(f1)},
    }


def entropy(distribution: NDArray[np.float64]) -> float:
    """Mean entropy in nats of distributions [N, K]."""
    return float(-(distribution * np.log(np.maximum(distribution, 1e-300))).sum(1).mean())


def rule_recall(logits: NDArray[np.float64], pairs: Sequence[AnswerPair]) -> dict[str, float]:
    """Share of right grades per rule."""
    hits: dict[str, list[bool]] = {}
    for pair, said in zip(pairs, most_likely_grade(grade_distribution(logits)), strict=True):
        hits.setdefault(pair.rule, []).append(bool(said == pair.grade))
    return {rule: float(np.mean(values)) for rule, values in hits.items()}


def rare_and_common(recall: dict[str, float]) -> dict[str, float]:
    """Mean recall over the rare rules, and over the others."""
    return {
        "rare_recall": float(np.mean([value for rule, value in recall.items() if rule in RARE])),
        "common_recall": float(np.mean([value for rule, value in recall.items() if rule not in RARE])),
    }


def explanation_figures(
    answers: Sequence[Sequence[int]], pairs: Sequence[AnswerPair], codec: AnswerCodec
) -> dict[str, float]:
    """Of greedy answers: readable at all; and of those, the verdict the grade's, quotes found, terms missing."""
    counts = {"readable": 0, "consistent": 0, "grounded": 0, "truly_missing": 0}
    for ids, pair in zip(answers, pairs, strict=True):
        answer = codec.read(ids)
        try:
            explanation = parse(answer.text, codec.scale)
        except ExplanationError:
            continue
        counts["readable"] += 1
        at_fault = {
            v.step for v in check(explanation, pair.query, pair.document, -1 if answer.grade is None else answer.grade)
        }
        for name, step in (("consistent", "verdict"), ("grounded", "evidence"), ("truly_missing", "missing")):
            counts[name] += step not in at_fault
    judged = max(1, counts["readable"])
    shares = {name: counts[name] / judged for name in ("consistent", "grounded", "truly_missing")}
    return {
        "readable": counts["readable"] / len(pairs),
        **shares,
        "answer_tokens": float(np.mean([len(a) for a in answers])),
    }


def evaluate(
    model: PreTrainedModel, codec: AnswerCodec, splits: Mapping[str, Sequence[AnswerPair]], num_generated: int
) -> dict[str, Any]:
    """All figures of one checkpoint, from its val, test and rules pairs."""
    val, test = splits["val"], splits["test"]
    gold = np.array([pair.grade for pair in val])
    temperature = fit_temperature(label_logits(model, val, codec), gold)
    gains = codec.scale.gains
    figures = grade_figures(label_logits(model, test, codec), test, gains, temperature)
    recall = rule_recall(label_logits(model, splits["rules"], codec), splits["rules"])
    figures |= {"temperature": temperature, **rare_and_common(recall)}
    if codec.order != "grade_only":
        shown = list(test[:num_generated])
        prompts = [codec.prompt(pair) for pair in shown]
        started = time.process_time()
        next_label_logits(model, prompts, codec)
        graded = time.process_time()
        answers = greedy_answers(model, prompts, codec)
        ended = time.process_time()
        figures |= explanation_figures(answers, shown, codec)
        figures |= {
            "grade_ms_per_pair": 1000.0 * (graded - started) / len(shown),
            "answer_ms_per_pair": 1000.0 * (ended - graded) / len(shown),
        }
    return {"figures": figures, "rules": recall}
