"""The rounds of an evolution: find, propose, try, keep or drop, write down.

    RUN/config.json       what is run; another configuration does not go on in this folder
    RUN/rounds.jsonl      one line per finished round: findings, proposals with their figures, what was kept
    RUN/books/NNN.json    each kept version of the rule book, which names its parent
    RUN/round-NN/...      the round's proposals and trials; a checkpoint stays if it was kept

A round is written down when it is over, so a run stopped anywhere goes on where it was: finished trials are read, and
an unfinished one resumes like any training run.

A proposal is kept if validation agreement under it is better than the control's and than the incumbent's, each by a
paired bootstrap at the level `level / (rounds * proposals)`. Of several such, the one with the highest agreement is
kept.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from modeling.loading import resolve_model_path
from relevance.provenance import current_commit
from training.config import ConfigError
from training.evolve.agreement import Comparison, FloatArray, agreement, compare
from training.evolve.config import EvolveConfig
from training.evolve.llm import LlmProposer
from training.evolve.mutator import RuleMutator
from training.evolve.proposals import Findings, Proposal, Proposer, RuleFinding, find_disagreements
from training.evolve.trial import Laboratory, Trial, discard
from training.rules.book import RuleBook

_SHOWN_RULES = 10
_PROPOSALS = TypeAdapter(list[Proposal])


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The best so far: a checkpoint, the rules it was made under, and its counts on validation."""

    checkpoint: str
    book: RuleBook
    counts: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tried proposal against the control and the incumbent."""

    proposal: Proposal
    book: RuleBook
    trial: Trial
    to_control: Comparison
    to_incumbent: Comparison

    def is_better(self, level: float) -> bool:
        """Whether both differences hold at `level`."""
        return max(self.to_control.p_value, self.to_incumbent.p_value) < level

    def record(self, kept: bool) -> dict[str, Any]:
        """What is written down of it."""
        kinds = [case.kind for case in self.proposal.cases]
        return {
            "rule": self.proposal.rule_id,
            "kind": self.proposal.kind,
            "key": self.proposal.key,
            "reason": self.proposal.reason,
            "edits": [rule.model_dump(exclude_none=True) for rule in self.proposal.edits],
            "cases": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            "agreement": self.to_control.agreement,
            "over_control": {"difference": self.to_control.difference, "p": self.to_control.p_value},
            "over_incumbent": {"difference": self.to_incumbent.difference, "p": self.to_incumbent.p_value},
            "kept": kept,
        }


def _finding_record(finding: RuleFinding) -> dict[str, Any]:
    return {
        "rule": finding.rule.id,
        "pairs": len(finding.rows),
        "wrong": finding.num_wrong,
        "mass": finding.mass,
        "gold_keeps": finding.gold_keeps,
    }


class EvolutionRun:
    """One run folder, from wherever it stands to its last round."""

    def __init__(self, config: EvolveConfig, data_dir: Path, run_dir: Path, proposer: Proposer | None = None) -> None:
        self.config, self.run_dir, self._proposer = config, run_dir, proposer
        self._claim_folder()
        self.laboratory = Laboratory(config, data_dir)
        book = RuleBook.preset() if config.book is None else RuleBook.from_file(Path(config.book))
        if book.num_grades != self.laboratory.spec.scale.num_grades:
            raise ConfigError(f"the rule book has {book.num_grades} grades, the checkpoint another number")
        self._first_book = book

    def _claim_folder(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        path, text = self.run_dir / "config.json", self.config.model_dump_json()
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{self.run_dir} holds a run of another configuration; use a new folder or delete it")
        path.write_text(text, encoding="utf-8")

    @property
    def records(self) -> list[dict[str, Any]]:
        """The finished rounds."""
        path = self.run_dir / "rounds.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []

    def run(self) -> list[dict[str, Any]]:
        """All rounds that are not over yet; the records of all."""
        records = self.records
        incumbent = self._incumbent(records)
        for number in range(len(records) + 1, self.config.num_rounds + 1):
            tried = frozenset(proposal["key"] for record in self.records for proposal in record["proposals"])
            incumbent = self._round(number, incumbent, tried)
        return self.records

    def _incumbent(self, records: list[dict[str, Any]]) -> Incumbent:
        kept = [record for record in records if record["kept"]]
        checkpoint = str(self.run_dir / kept[-1]["checkpoint"]) if kept else resolve_model_path(self.config.base_model)
        book = RuleBook.from_file(self.run_dir / kept[-1]["book_file"]) if kept else self._first_book
        return Incumbent(checkpoint, book, self.laboratory.validate(checkpoint, book))

    def _round(self, number: int, incumbent: Incumbent, tried: frozenset[str]) -> Incumbent:
        pairs = self.laboratory.draw("mining", number, self.config.mining_rows)
        predicted = self.laboratory.grade(incumbent.checkpoint, incumbent.book, pairs)
        findings = find_disagreements(incumbent.book, pairs, predicted, tried)
        folder = self.run_dir / f"round-{number:02d}"
        proposals = self._propose(findings, number, folder / "proposals.json")
        replay = self.laboratory.draw("replay", number, self.config.replay_rows)
        control = self.laboratory.run(folder / "control", incumbent.checkpoint, incumbent.book, replay, ())
        outcomes = [
            self._try(folder / f"proposal-{index}", incumbent, control, replay, proposal)
            for index, proposal in enumerate(proposals, start=1)
        ]
        better = [outcome for outcome in outcomes if outcome.is_better(self.config.proposal_level)]
        best = max(better, key=lambda outcome: outcome.to_control.agreement, default=None)
        self._write_down(number, incumbent, findings, outcomes, best, control)
        discard(folder / "control")
        for outcome in outcomes:
            if outcome is not best:
                discard(Path(outcome.trial.checkpoint).parent)
        return incumbent if best is None else Incumbent(best.trial.checkpoint, best.book, best.trial.counts)

    def _propose(self, findings: Findings, number: int, path: Path) -> list[Proposal]:
        """The proposals of a round, asked for once: a resumed round tries the same."""
        if path.is_file():
            return _PROPOSALS.validate_json(path.read_bytes())
        proposer = self._proposer
        if proposer is None:
            num_cases, endpoint = self.config.cases_per_proposal, self.config.endpoint
            proposer = RuleMutator(num_cases, number) if endpoint is None else LlmProposer(endpoint, num_cases, number)
        proposals = proposer.propose(findings, self.config.proposals_per_round, self.config.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(_PROPOSALS.dump_json(proposals))
        temporary.replace(path)
        return proposals

    def _try(
        self, folder: Path, incumbent: Incumbent, control: Trial, replay: list[Any], proposal: Proposal
    ) -> Outcome:
        book = incumbent.book.next_version(proposal.edits) if proposal.edits else incumbent.book
        trial = self.laboratory.run(folder, incumbent.checkpoint, book, replay, proposal.cases)
        to_control, to_incumbent = (
            compare(trial.counts, counts, self.config.resamples, self.config.seed)
            for counts in (control.counts, incumbent.counts)
        )
        return Outcome(proposal, book, trial, to_control, to_incumbent)

    def _write_down(
        self,
        number: int,
        incumbent: Incumbent,
        findings: Findings,
        outcomes: list[Outcome],
        best: Outcome | None,
        control: Trial,
    ) -> None:
        book = incumbent.book if best is None else best.book
        book_file = Path("books") / f"{book.version:03d}.json"
        (self.run_dir / "books").mkdir(exist_ok=True)
        book.to_file(self.run_dir / book_file)
        record = {
            "round": number,
            "commit": current_commit(),
            "findings": [_finding_record(finding) for finding in findings.ranked[:_SHOWN_RULES]],
            "incumbent_agreement": agreement(incumbent.counts),
            "control_agreement": agreement(control.counts),
            "proposals": [outcome.record(outcome is best) for outcome in outcomes],
            "kept": best is not None,
            "checkpoint": None if best is None else str(Path(best.trial.checkpoint).relative_to(self.run_dir)),
            "book_file": str(book_file),
            "book_version": book.version,
            "book": book.content_hash,
            "parent": book.parent,
        }
        with (self.run_dir / "rounds.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
