"""The built-in proposer: edits of rules by what gold says, without a language model.

    cases    gold keeps the rule, the model does not: pairs made for the rule, and real ones it got wrong
    bound    gold breaks the rule's bound too often: the nearest bound that gold keeps
    narrow   gold breaks it, and one more condition (or exception) makes gold keep it: that condition

Bounds and conditions are read off training pairs; whether the edit helps is decided elsewhere, on validation.
"""

import random
import re
from collections.abc import Iterator

import numpy as np

from training.data import LabelledPair
from training.evolve.proposals import Case, Findings, Proposal, RuleFinding
from training.rules.book import Condition, Effect, Origin, Rule
from training.rules.predicates import PREDICATES
from training.rules.text import TextFeatures
from training.synthesis import SourceRow, Synthesizer

KEPT_ENOUGH = 0.8
"""Share of gold grades within a bound from which the bound is taken as right."""
MIN_ROWS = 30
_GAIN = 0.1
_GRADE_WORDS = ("irrelevant", "related", "highly relevant", "perfect")
_MEANING = {
    "exact_title": "the title has the query's words in a row",
    "all_shared": "the document has every word of the query",
    "half_shared": "the document has half of the query's words",
    "nothing_shared": "no word of the query is there",
    "head_missing": "the thing asked for is not named",
    "accessory": "it is an accessory",
    "part": "it is a part",
    "number_missing": "a number of the query is missing",
    "numbers_met": "every measure is met",
    "brand_met": "the brand asked for is there",
    "one_word_query": "the query is one word",
    "long_query": "the query is long and specific",
    "answer_kind_met": "the kind of answer asked for is there",
    "answer_kind_missing": "the kind of answer asked for is missing",
    "long_document": "the document is long",
    "is_health": "the question is about health",
    "is_question": "the query is a question",
    "is_shop": "the document is a product's title",
    "is_passage": "the document is a passage",
    "misspelt": "a word is misspelt",
    "synonym": "a word stands there as a synonym",
}


class RuleMutator:
    """Proposes by rule; `cases_per_proposal` pairs at most go with each proposal."""

    def __init__(self, cases_per_proposal: int, made_in_round: int) -> None:
        self._num_cases, self._round = cases_per_proposal, made_in_round

    def propose(self, findings: Findings, count: int, seed: int) -> list[Proposal]:
        """One proposal a rule, those with the largest mass first."""
        rows = [SourceRow(pair, "mining", line) for line, pair in enumerate(findings.pairs, start=1)]
        synthesizer = Synthesizer(findings.book, rows)
        proposals: list[Proposal] = []
        for finding in findings.ranked:
            if len(proposals) == count:
                break
            rng = random.Random(f"{seed}/{self._round}/{finding.rule.id}")
            for proposal in self._for_rule(findings, finding):
                if proposal.key not in findings.tried and finding.num_wrong:
                    rule = proposal.edits[0] if proposal.edits else finding.rule
                    cases = self._cases(findings, finding, rule, synthesizer, rng)
                    proposals.append(
                        Proposal(proposal.rule_id, proposal.kind, proposal.reason, proposal.edits, tuple(cases))
                    )
                    break
        return proposals

    def _for_rule(self, findings: Findings, finding: RuleFinding) -> Iterator[Proposal]:
        rule = finding.rule
        share = f"gold keeps it in {finding.gold_keeps:.0%} of {len(finding.rows)} pairs"
        if finding.gold_keeps < KEPT_ENOUGH and len(finding.rows) >= MIN_ROWS:
            narrowed = self._narrow(findings, finding)
            if narrowed is not None:
                yield Proposal(rule.id, "narrow", share, (narrowed,))
            moved = self._move_bound(findings, finding)
            if moved is not None:
                yield Proposal(rule.id, "bound", share, (moved,))
        yield Proposal(rule.id, "cases", f"{share}, the model is wrong in {finding.num_wrong}")

    def _move_bound(self, findings: Findings, finding: RuleFinding) -> Rule | None:
        """The rule with the nearest bound that gold keeps; None where only a bound that says nothing would do."""
        rule, grades, top = finding.rule, findings.gold[finding.rows], findings.book.num_grades - 1
        if rule.effect.at_most is not None:
            bounds = [Effect(at_most=k) for k in range(rule.effect.at_most + 1, top)]
        else:
            bounds = [Effect(at_least=k) for k in range((rule.effect.at_least or 0) - 1, 0, -1)]
        for effect in bounds:
            if np.mean([effect.keeps(int(grade)) for grade in grades]) >= KEPT_ENOUGH:
                return _edited(rule, rule.applies, effect, _say_bound(rule.statement, effect), self._round)
        return None

    def _narrow(self, findings: Findings, finding: RuleFinding) -> Rule | None:
        """The rule with the one further condition or exception under which gold keeps it most often."""
        rule, condition = finding.rule, finding.rule.applies
        if condition is None:
            return None
        kept = np.array([rule.effect.keeps(int(grade)) for grade in findings.gold[finding.rows]])
        features = [_features(findings.pairs[row]) for row in finding.rows]
        best: tuple[float, str, bool] | None = None
        for name in sorted(set(_MEANING) - {*condition.all_of, *condition.none_of}):
            holds = np.array([PREDICATES[name](*pair) for pair in features])
            for is_exception in (False, True):
                rows = ~holds if is_exception else holds
                if rows.sum() >= MIN_ROWS and (~rows).sum() > 0 and (best is None or kept[rows].mean() > best[0]):
                    best = float(kept[rows].mean()), name, is_exception
        if best is None or best[0] < finding.gold_keeps + _GAIN:
            return None
        _, name, is_exception = best
        narrower = (
            Condition(all_of=condition.all_of, none_of=(*condition.none_of, name))
            if is_exception
            else Condition(all_of=(*condition.all_of, name), none_of=condition.none_of)
        )
        addition = f"{'unless' if is_exception else 'where'} {_MEANING[name]}"
        statement = f"{rule.statement.rstrip('.')}, {addition}."
        return _edited(rule, narrower, rule.effect, statement, self._round) if len(statement) <= 240 else None

    def _cases(
        self, findings: Findings, finding: RuleFinding, rule: Rule, synthesizer: Synthesizer, rng: random.Random
    ) -> Iterator[Case]:
        """Half real pairs the model got wrong where gold keeps the rule, the rest made for it."""
        wrong = [
            findings.pairs[row]
            for row in finding.rows
            if findings.predicted[row] != findings.gold[row] and rule.effect.keeps(int(findings.gold[row]))
        ]
        wrong = [pair for pair in wrong if rule.applies_to(pair.query, pair.document)]
        made = [
            Case(row.query, row.document, row.grade, "made")
            for row in synthesizer.pairs_for(rule, self._num_cases // 2, rng)
        ][: self._num_cases // 2]
        yield from made
        for pair in rng.sample(wrong, min(len(wrong), self._num_cases - len(made))):
            yield Case(pair.query, pair.document, pair.grade, "real")


def _features(pair: LabelledPair) -> tuple[TextFeatures, TextFeatures]:
    return TextFeatures.of(pair.query), TextFeatures.of(pair.document)


def _say_bound(statement: str, effect: Effect) -> str:
    """The statement with its "at most related" or "at least related" said anew; added where there is none."""
    side, grade = ("at most", effect.at_most) if effect.at_most is not None else ("at least", effect.at_least)
    said = f"{side} {_GRADE_WORDS[grade]}" if grade is not None and grade < len(_GRADE_WORDS) else f"{side} {grade}"
    changed, count = re.subn(rf"\bat (?:most|least) (?:{'|'.join(_GRADE_WORDS)})", said, statement, count=1)
    return changed if count else f"{statement.rstrip('.')}: {said}."


def _edited(rule: Rule, applies: Condition | None, effect: Effect, statement: str, round_number: int) -> Rule:
    """The rule under its own id, with the examples that are still right."""
    origin = Origin(made_by="mutator", made_in_round=round_number, made_from=rule.id)
    bare = Rule(
        id=rule.id, domain=rule.domain, statement=statement, applies=applies, effect=effect, examples=(), origin=origin
    )
    kept = tuple(e for e in rule.examples if bare.applies_to(e.query, e.document) and effect.keeps(e.grade))
    return bare.model_copy(update={"examples": kept})
