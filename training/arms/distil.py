"""Students of an arm: its grade distributions, its answers as text, or both, on pairs without a label.

    grades          - sum_k t_k log pi(k)              t the teacher's distribution over the grades
    explanations    - mean log pi(token)               the teacher's greedy answers, most likely grade first
    both            the sum, the grade from t alone

The pairs are queries of the training set with their own document or, as often, with another's: no human grade is used.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from relevance.scoring import grade_distribution
from training.arms.config import Arm, Stage
from training.arms.evaluate import greedy_answers, next_label_logits
from training.grpo.answers import AnswerCodec, AnswerPair
from training.grpo.losses import answer_loss


def unlabelled_pairs(pairs: Sequence[AnswerPair], rng: random.Random) -> list[AnswerPair]:
    """As many pairs, half of them with a document of another query; grades are blank."""
    documents = [pair.document for pair in pairs]
    return [AnswerPair(p.query, p.document if rng.random() < 0.5 else rng.choice(documents), 0) for p in pairs]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher says of one pair."""

    prompt: list[int]
    answer: list[int]
    distribution: NDArray[np.float64]  # [K]


def lessons_of(
    teacher: PreTrainedModel, pairs: Sequence[AnswerPair], codec: AnswerCodec, *, text: bool
) -> list[Lesson]:
    """The teacher on every pair; its answers only where `text` is wanted."""
    prompts = [codec.prompt(pair) for pair in pairs]
    distributions = grade_distribution(next_label_logits(teacher, prompts, codec))
    answers = greedy_answers(teacher, prompts, codec) if text else [[codec.label_token_ids[0]]] * len(prompts)
    return [Lesson(p, a, d) for p, a, d in zip(prompts, answers, distributions, strict=True)]


def lesson_loss(model: PreTrainedModel, batch: Sequence[Lesson], codec: AnswerCodec, arm: Arm) -> torch.Tensor:
    """The loss of `arm` on a batch."""
    rows = [torch.tensor(lesson.prompt + lesson.answer) for lesson in batch]
    ids = pad_sequence(rows, batch_first=True)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = model(input_ids=ids, attention_mask=mask).logits
    at = torch.tensor([len(lesson.prompt) for lesson in batch])
    first = torch.log_softmax(logits[torch.arange(len(batch)), at - 1], dim=-1)[:, list(codec.label_token_ids)]
    soft = torch.tensor(np.array([lesson.distribution for lesson in batch]), dtype=first.dtype)
    loss = -(soft * first).sum(-1).mean() if arm.grades else torch.zeros(())
    if arm.explanations:
        labels = [torch.tensor([-100] * len(le.prompt) + le.answer) for le in batch]
        target = pad_sequence(labels, batch_first=True, padding_value=-100)[:, 1:]
        loss = loss + answer_loss(logits[:, :-1], target, at - 1, 0.0 if arm.grades else 0.5).mean()
    return loss


def distil(
    model: PreTrainedModel, lessons: Sequence[Lesson], codec: AnswerCodec, arm: Arm, stage: Stage, seed: int
) -> None:
    """Train `model` in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    steps, warmup = stage.steps, max(1, stage.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / warmup if s < warmup else max(0.0, (steps - s) / (steps - warmup))
    )
    rng, order = random.Random(seed), list[Lesson]()
    model.train()
    for _ in range(steps):
        while len(order) < stage.batch:
            order += rng.sample(list(lessons), len(lessons))
        batch, order = order[: stage.batch], order[stage.batch :]
        lesson_loss(model, batch, codec, arm).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
