"""How good the explanations of a checkpoint are: with the grammar that serving uses, and left to itself.

    python -m training.explanations CHECKPOINT --data FILE [FILE ...] [--teacher CHECKPOINT] [--out results/NAME.json]

For a sample of each file the checkpoint gives its grade and then, greedily, its explanation, twice: held to the grammar
(relevance.grammar) and free. The figures of both are those of `training.explanation_figures`. With --teacher, how
likely each explanation is to another checkpoint: the perplexity of its tokens behind the same pair and grade, a proxy
for fluency; beside it that of the file's own explanations, where it has any. Last line: all figures as JSON.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from modeling.decode import AnswerDecoder
from modeling.loading import load_model, load_tokenizer
from relevance.errors import ArtifactError, RelevanceError
from relevance.explanation import END, STEPS, Explanation, render
from relevance.grammar import AnswerGrammar
from relevance.provenance import command_line, write_result
from relevance.scoring import most_likely_grade
from relevance.spec import SPEC_FILE, ScoringSpec
from training.annotate import GradedRow, read_rows
from training.constrained import decode_explanations
from training.data import DataError, Example, LabelledPair, encode_pairs, token_batches
from training.explanation_figures import Explained, measure_explanations
from training.scorer import CheckpointScorer

BATCH_ROWS = 48
MAX_DOCUMENT_TOKENS = 192
"""Longer documents are cut, so that an answer fits behind them; for grade and explanation alike."""
MAX_FREE_TOKENS = 160
"""Free decoding stops here where it has not closed its last step."""


def grow_freely(
    step: Callable[[Sequence[int]], Sequence[int]], first: Sequence[int], num_marks: Callable[[int], int]
) -> list[list[int]]:
    """Answers of a batch behind its `first` tokens, each up to the token that closes its last step.

    `step` gives the next token of each row behind the one before, `num_marks` how many steps a token closes.
    """
    answers: list[list[int]] = [[] for _ in first]
    closed = [0] * len(first)
    tokens = first
    for _ in range(MAX_FREE_TOKENS):
        tokens = step(tokens)
        for row, token in enumerate(tokens):
            if closed[row] < len(STEPS):
                answers[row].append(token)
                closed[row] += num_marks(token)
        if min(closed) >= len(STEPS):
            break
    return answers


class ExplainingCheckpoint:
    """A checkpoint with all that is needed to let it explain."""

    def __init__(self, folder: Path, *, bfloat16: bool = False) -> None:
        """Load it.

        Raises:
            RelevanceError: no scoring spec, or one that its tokenizer or its weights do not fit.
        """
        self.spec = ScoringSpec.from_file(folder / SPEC_FILE)
        self.tokenizer = load_tokenizer(str(folder))
        self.labels = self.spec.scale.resolve_label_token_ids(self.tokenizer)
        try:
            model = load_model(str(folder))
            self.scorer = CheckpointScorer(model, self.spec.attention, self.labels, bfloat16=bfloat16)
        except ValueError as error:  # what the library and the scorer raise where weights and spec do not fit
            raise ArtifactError(f"{folder}: {error}") from error
        self.encoder = self.spec.encoder(self.tokenizer)
        self.grammar = AnswerGrammar(self.tokenizer, self.spec.scale)

    def grades(self, examples: Sequence[Example]) -> list[int]:
        """The likeliest grade of each example."""
        return [int(grade) for grade in most_likely_grade(self.scorer.label_logits(examples))]

    def explain_freely(self, examples: Sequence[Example], grades: Sequence[int]) -> list[list[int]]:
        """Greedy tokens behind each grade, up to the one that closes the last step."""
        order = sorted(range(len(examples)), key=lambda index: len(examples[index].ids))
        found: dict[int, list[int]] = {}
        for start in tqdm(range(0, len(order), BATCH_ROWS), desc="free", unit="batch", mininterval=5):
            chosen = order[start : start + BATCH_ROWS]
            answers = self._decode([examples[i] for i in chosen], [grades[i] for i in chosen])
            found.update(zip(chosen, answers, strict=True))
        return [found[index] for index in range(len(examples))]

    def _decode(self, examples: Sequence[Example], grades: Sequence[int]) -> list[list[int]]:
        self.scorer.model.eval()
        decoder = AnswerDecoder(self.scorer.model, self.scorer.attention)
        decoder.start([example.ids for example in examples], [example.segments for example in examples])

        def step(tokens: Sequence[int]) -> list[int]:
            found: list[int] = decoder.step(torch.tensor(tokens)).argmax(-1).tolist()
            return found

        first = [self.labels[grade] for grade in grades]
        return grow_freely(step, first, lambda token: self.tokenizer.decode([token]).count(END))

    def perplexity(self, explained: Sequence[Explained]) -> float:
        """exp of the mean negative log likelihood per token of the texts behind their pairs and grades."""
        nobody = (1.0,) + (0.0,) * (len(self.labels) - 1)
        pairs = [LabelledPair(one.query, one.document, nobody) for one in explained]
        prompts = encode_pairs(pairs, self.encoder, None, MAX_DOCUMENT_TOKENS)
        examples = []
        for one, prompt in zip(explained, prompts, strict=True):
            text = self.tokenizer.encode_user_texts([f" {one.text.strip()}"])[0]
            answer = (self.labels[one.grade], *text)
            examples.append(Example(prompt.ids, prompt.prefix_length, nobody, prompt.suffix_length, answer))
        total, count = 0.0, 0
        self.scorer.model.eval()
        with torch.inference_mode():
            for batch in token_batches(examples, 4096, random.Random(0)):
                out = self.scorer.forward(batch)
                total += float(torch.nn.functional.cross_entropy(out.explanation, out.tokens, reduction="sum"))
                count += len(out.tokens)
        return math.exp(total / count)


def draw_rows(path: Path, num_rows: int, num_grades: int, seed: int) -> list[GradedRow]:
    """At most `num_rows` rows of a file; DataError if it cannot be read."""
    rows = read_rows(path, num_grades)
    return random.Random(seed).sample(rows, min(num_rows, len(rows)))


def _judged(row: GradedRow) -> tuple[int, ...] | None:
    return None if row.criteria is None else tuple(row.criteria.values())


def evaluate_rows(
    checkpoint: ExplainingCheckpoint, rows: Sequence[GradedRow], teacher: ExplainingCheckpoint | None
) -> dict[str, Any]:
    """Figures of both ways of decoding on the pairs of `rows`."""
    scale = checkpoint.spec.scale
    pairs = [LabelledPair(row.query, row.document, (1.0,) + (0.0,) * (scale.num_grades - 1)) for row in rows]
    examples = encode_pairs(pairs, checkpoint.encoder, None, MAX_DOCUMENT_TOKENS)
    grades = checkpoint.grades(examples)
    decoded: dict[str, Sequence[Sequence[int]]] = {
        "grammar": decode_explanations(checkpoint.scorer, checkpoint.grammar, pairs, examples, grades),
        "free": checkpoint.explain_freely(examples, grades),
    }
    figures: dict[str, Any] = {}
    for name, answers in decoded.items():
        explained = [
            Explained(row.query, row.document, grade, checkpoint.tokenizer.decode(ids), len(ids), _judged(row))
            for row, grade, ids in zip(rows, grades, answers, strict=True)
        ]
        figures[name] = measure_explanations(explained, scale)
        if teacher is not None:
            figures[name]["perplexity"] = teacher.perplexity([one for one in explained if one.text.strip()])
    if teacher is not None and (own := _gold(rows, checkpoint)):
        figures["gold_perplexity"] = teacher.perplexity(own)
    return figures


def _gold(rows: Sequence[GradedRow], checkpoint: ExplainingCheckpoint) -> list[Explained]:
    found = []
    for row in rows:
        if (value := row.row.get("explanation")) is not None:
            text = render(Explanation.from_json(value), checkpoint.spec.scale)
            found.append(Explained(row.query, row.document, row.grade, text, 0))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; 2 if the checkpoint or a file cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--teacher", type=Path, help="a checkpoint that says how likely the explanations are")
    parser.add_argument("--rows", type=int, default=400, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write a results file")
    args = parser.parse_args(argv)
    try:
        checkpoint = ExplainingCheckpoint(args.checkpoint)
        teacher = None if args.teacher is None else ExplainingCheckpoint(args.teacher)
        num_grades = checkpoint.spec.scale.num_grades
        files = {
            f"{path.parent.name}/{path.name.split('.')[0]}": draw_rows(path, args.rows, num_grades, args.seed)
            for path in args.data
        }
        figures = {name: evaluate_rows(checkpoint, rows, teacher) for name, rows in files.items()}
    except (RelevanceError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.out is not None:
        command = command_line("training.explanations", sys.argv[1:] if argv is None else argv)
        write_result(args.out, command, {"figures": figures}, packages=("numpy", "torch", "transformers"))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
