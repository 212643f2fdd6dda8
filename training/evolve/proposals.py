"""What an evolution round works on: the rules where model and gold disagree most, and proposals for them.

The mass of a rule is the sum of |model's grade - gold grade| over the pairs it applies to: many small errors weigh as
much as few large ones. A proposal is a set of edited rules and new cases: pairs with their grade under the edited rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.data import LabelledPair
from training.rules.book import Rule, RuleBook
from training.rules.figures import applicability


@dataclass(frozen=True, slots=True)
class Case:
    """A pair to learn from, its grade, and whether it was seen in the data or made."""

    query: str
    document: str
    grade: int
    kind: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edits of the rule book, and cases that teach them."""

    rule_id: str
    kind: str
    """What was done, in a word: it tells proposals for the same rule apart."""
    reason: str
    edits: tuple[Rule, ...] = ()
    cases: tuple[Case, ...] = ()

    @property
    def key(self) -> str:
        """Equal for proposals that come to the same: what was tried and not kept is not tried again."""
        return f"{self.rule_id}/{self.kind}/" + ";".join(
            f"{rule.id}:{rule.applies}:{rule.effect}:{rule.statement}" for rule in self.edits
        )


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule with the rows (indices) it applies to, and how wrong the model is there."""

    rule: Rule
    rows: NDArray[np.int64]
    num_wrong: int
    mass: int
    gold_keeps: float


@dataclass(frozen=True, slots=True)
class Findings:
    """Mining pairs as the model grades them, and the rules by falling mass."""

    book: RuleBook
    pairs: Sequence[LabelledPair]
    gold: NDArray[np.int64]
    predicted: NDArray[np.int64]
    ranked: tuple[RuleFinding, ...]
    tried: frozenset[str] = field(default=frozenset())
    """Keys of proposals of earlier rounds."""


class Proposer(Protocol):
    """Makes proposals out of findings."""

    def propose(self, findings: Findings, count: int, seed: int) -> list[Proposal]:
        """At most `count` proposals, none tried before, the most promising first."""
        ...


def find_disagreements(
    book: RuleBook, pairs: Sequence[LabelledPair], predicted: NDArray[np.int64], tried: frozenset[str]
) -> Findings:
    """Findings of a model's grades [N] for mining pairs."""
    gold = np.array([pair.grade for pair in pairs], dtype=np.int64)
    applies = applicability(book, [(pair.query, pair.document) for pair in pairs])
    error = np.abs(predicted - gold)
    found = []
    for column, rule in enumerate(book.rules):
        rows = np.flatnonzero(applies[:, column])
        if len(rows):
            keeps = float(np.mean([rule.effect.keeps(int(grade)) for grade in gold[rows]]))
            found.append(RuleFinding(rule, rows, int(np.sum(error[rows] > 0)), int(error[rows].sum()), keeps))
    ranked = tuple(sorted(found, key=lambda finding: -finding.mass))
    return Findings(book, pairs, gold, predicted, ranked, tried)
