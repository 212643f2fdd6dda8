"""Greedy explanations of a checkpoint, held to the grammar, many pairs at once.

The grade already given is the first token; the grammar forces the rest of the answer to agree with it. Rows that are
done wait for the longest of their batch, so batches are made of prompts of like length.
"""

from collections.abc import Sequence

import torch

from modeling.decode import AnswerDecoder
from relevance.grammar import AnswerGrammar, PairGrammar, State
from relevance.prompt import End
from training.data import Example, LabelledPair
from training.scorer import CheckpointScorer

BATCH_ROWS = 48


def decode_explanations(
    scorer: CheckpointScorer,
    grammar: AnswerGrammar,
    pairs: Sequence[LabelledPair],
    examples: Sequence[Example],
    grades: Sequence[int],
) -> list[tuple[int, ...]]:
    """The explanation tokens of each pair behind its grade in `grades`, in order."""
    found: dict[int, tuple[int, ...]] = {}
    order = sorted(range(len(pairs)), key=lambda index: len(examples[index].ids))
    for start in range(0, len(order), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        paths = [_paths(grammar, pairs[i], examples[i], grades[i]) for i in chosen]
        answers = _decode(scorer, paths, [examples[i] for i in chosen], [grades[i] for i in chosen])
        found.update(zip(chosen, answers, strict=True))
    return [found[index] for index in range(len(pairs))]


def _paths(grammar: AnswerGrammar, pair: LabelledPair, example: Example, grade: int) -> PairGrammar:
    kept: End | None = "start" if example.truncated else None
    return grammar.for_pair(pair.query, pair.document, example.ids[slice(*example.document)], grade, kept)


def _decode(
    scorer: CheckpointScorer, paths: Sequence[PairGrammar], examples: Sequence[Example], grades: Sequence[int]
) -> list[tuple[int, ...]]:
    scorer.model.eval()
    decoder = AnswerDecoder(scorer.model, scorer.attention)
    decoder.start([example.ids for example in examples], [example.segments for example in examples])
    states: list[State] = [path.start() for path in paths]
    answers: list[list[int]] = [[] for _ in paths]
    tokens = scorer.label_token_ids[list(grades)]
    while not all(path.is_done(state) for path, state in zip(paths, states, strict=True)):
        logits = decoder.step(tokens)
        tokens = torch.zeros_like(tokens)
        for row, path in enumerate(paths):
            if path.is_done(states[row]):
                continue
            allowed = path.allowed(states[row])
            token = allowed[0] if len(allowed) == 1 else allowed[int(logits[row, list(allowed)].argmax())]
            answers[row].append(token)
            states[row] = path.advance(states[row], token)
            tokens[row] = token
    return [tuple(answer) for answer in answers]
