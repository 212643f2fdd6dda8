"""What a proposal is worth: the incumbent trained briefly with it and without it, both graded on validation.

    control     the incumbent, trained on R rows of replay
    candidate   the incumbent, trained on C cases of the proposal and R - C of the same rows

Both see equally many rows in equally many steps, so that a difference is the cases' (and, where the instruction is
evolved, the instruction's), not that of more training. A trial's counts are kept in `result.json`; a trial with one is
not run again.
"""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modeling.loading import load_model, load_tokenizer, resolve_model_path
from relevance.errors import PromptError
from relevance.spec import SPEC_FILE, ScoringSpec
from relevance.tokenization import TextTokenizer
from training.config import ConfigError, SftConfig, Source
from training.data import LabelledPair, encode_pairs, read_pairs
from training.evolve.agreement import FloatArray, confusion_by_query
from training.evolve.config import EvolveConfig
from training.evolve.proposals import Case
from training.rules.book import RuleBook
from training.scorer import CheckpointScorer
from training.sft import SftRun, load_spec

ROWS_FILE = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class Trial:
    """A trained checkpoint and its confusion counts [Q, K, K] on each validation file."""

    checkpoint: str
    counts: tuple[FloatArray, ...]


class Laboratory:
    """Trains and grades checkpoints for one evolution run."""

    def __init__(self, config: EvolveConfig, data_dir: Path) -> None:
        self.config = config
        base = resolve_model_path(config.base_model)
        self.spec_path = config.spec or str(Path(base) / SPEC_FILE)
        self.spec: ScoringSpec = load_spec(self.spec_path)
        if config.instruct and self.spec.template.instruction is None:
            raise ConfigError(f"{self.spec_path}: its template takes no instruction, so none can be evolved")
        self._tokenizer: TextTokenizer = load_tokenizer(base)
        num_grades = self.spec.scale.num_grades
        self.mining = [read_pairs(data_dir / name, num_grades) for name in config.mining]
        self.validation = [read_pairs(data_dir / name, num_grades) for name in config.validation]

    def instruction(self, book: RuleBook) -> str | None:
        """The book's instruction, as long as the spec allows; None where instructions are not evolved."""
        if not self.config.instruct:
            return None
        encoder = self.spec.encoder(self._tokenizer)

        def fits(text: str) -> bool:
            try:
                encoder.encode_prefix("", text)
            except PromptError:
                return False
            return True

        return book.instruction(self.config.domains, fits)

    def grade(self, checkpoint: str, book: RuleBook, pairs: Sequence[LabelledPair]) -> NDArray[np.int64]:
        """The grade a checkpoint gives each pair, [N]."""
        model = load_model(checkpoint)
        label_token_ids = self.spec.scale.resolve_label_token_ids(self._tokenizer)
        bfloat16 = self.config.precision == "bfloat16"
        scorer = CheckpointScorer(model, self.spec.attention, label_token_ids, bfloat16=bfloat16)
        encoder = self.spec.encoder(self._tokenizer)
        cut = self.config.adaptation.max_document_tokens
        logits = scorer.label_logits(encode_pairs(pairs, encoder, self.instruction(book), cut))
        return np.asarray(logits.argmax(axis=1), dtype=np.int64)

    def validate(self, checkpoint: str, book: RuleBook) -> tuple[FloatArray, ...]:
        """Confusion counts [Q, K, K] of each validation file."""
        pairs = [pair for rows in self.validation for pair in rows]
        grades = self.grade(checkpoint, book, pairs)
        counts, start = [], 0
        for rows in self.validation:
            predicted = grades[start : start + len(rows)]
            gold, queries = [pair.grade for pair in rows], [pair.query for pair in rows]
            counts.append(confusion_by_query(predicted, gold, queries, self.spec.scale.num_grades))
            start += len(rows)
        return tuple(counts)

    def draw(self, purpose: str, round_number: int, num_rows: int) -> list[LabelledPair]:
        """Up to `num_rows` rows of each mining file, others for every purpose and round."""
        rows: list[LabelledPair] = []
        for name, pairs in zip(self.config.mining, self.mining, strict=True):
            rng = random.Random(f"{self.config.seed}/{purpose}/{round_number}/{name}")
            rows += rng.sample(pairs, min(num_rows, len(pairs)))
        random.Random(f"{self.config.seed}/{purpose}/{round_number}").shuffle(rows)
        return rows

    def run(
        self, folder: Path, incumbent: str, book: RuleBook, replay: Sequence[LabelledPair], cases: Sequence[Case]
    ) -> Trial:
        """Train the incumbent on `cases` in the place of as many rows of `replay`, and grade validation."""
        result = folder / "result.json"
        if result.is_file():
            counts = json.loads(result.read_text(encoding="utf-8"))["counts"]
            return Trial(str(folder / "checkpoint"), tuple(np.array(file) for file in counts))
        folder.mkdir(parents=True, exist_ok=True)
        _write_rows(folder / ROWS_FILE, replay[: max(0, len(replay) - len(cases))], cases)
        SftRun(self._sft_config(incumbent, book), folder, folder).train()
        counts = self.validate(str(folder / "checkpoint"), book)
        temporary = result.with_name("result.json.part")
        temporary.write_text(json.dumps({"counts": [file.tolist() for file in counts]}), encoding="utf-8")
        temporary.replace(result)
        (folder / "resume.pt").unlink(missing_ok=True)
        return Trial(str(folder / "checkpoint"), counts)

    def _sft_config(self, incumbent: str, book: RuleBook) -> SftConfig:
        instruction, adaptation = self.instruction(book), self.config.adaptation
        source = Source(
            path=ROWS_FILE,
            instruction=instruction,
            instruction_rate=0.0 if instruction is None else 1.0,
            max_document_tokens=adaptation.max_document_tokens,
        )
        return SftConfig.model_validate(
            {
                "base_model": incumbent,
                "spec": self.spec_path,
                "sources": (source,),
                "precision": self.config.precision,
                "seed": self.config.seed,
                "evaluate_every": 1_000_000,
                **adaptation.model_dump(exclude={"max_document_tokens"}),
            }
        )


def _write_rows(path: Path, replay: Sequence[LabelledPair], cases: Sequence[Case]) -> None:
    rows = [{"query": p.query, "document": p.document, "distribution": list(p.target)} for p in replay]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines += [json.dumps({"query": c.query, "document": c.document, "grade": c.grade}) for c in cases]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def discard(folder: Path) -> None:
    """Free the space of a checkpoint that was not kept; rows and result stay."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
