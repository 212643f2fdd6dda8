"""The small world: its rules decide, and its gold answers hold."""

import random
from collections import Counter

import pytest

from relevance.explanation import Explanation, check, parse, render
from tests.training.grpo.conftest import SPEC
from training.arms.catalogue import GRADE_OF, RARE, SHARES, draw_need, draw_pair, draw_rows, draw_splits


@pytest.mark.parametrize("rule", list(SHARES))
def test_every_gold_answer_of_a_rule_holds(rule: str) -> None:
    rng = random.Random(rule)
    for _ in range(50):
        row = draw_pair(rng, draw_need(rng, rule), rule)
        explanation = Explanation.from_json(row["explanation"])
        assert row["grade"] == GRADE_OF[rule] == explanation.verdict
        assert check(explanation, row["query"], row["document"], row["grade"]) == []
        assert parse(render(explanation, SPEC.scale), SPEC.scale) == explanation


def words_of(rule: str, seed: int) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    row = draw_pair(rng, draw_need(rng, rule), rule)
    return row["query"].split(), row["document"].split()


@pytest.mark.parametrize("seed", range(20))
def test_rules_mean_what_they_say(seed: int) -> None:
    query, document = words_of("exact", seed)
    assert set(query) <= set(document)
    query, document = words_of("negated", seed)
    assert "without" in query
    assert "without" not in document
    query, document = words_of("unit_converted", seed)
    feet, inches = int(query[query.index("foot") - 1]), int(document[document.index("inch") - 1])
    assert inches == 12 * feet
    query, document = words_of("part_for_it", seed)
    assert "for" in document
    assert set(query) <= set(document)


def test_rules_come_in_their_shares_and_rare_ones_are_rare() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)
    found = Counter(row["rule"] for row in draw_rows(random.Random(0), 20000))
    for rule, share in SHARES.items():
        assert found[rule] / 20000 == pytest.approx(share, abs=0.012)
    assert set(RARE) == {"material_differs", "part_for_it", "negated", "unit_converted", "pack_differs"}


def test_splits_share_no_pair_and_follow_the_seed() -> None:
    splits = draw_splits(3, 300, 20, 5)
    assert splits == draw_splits(3, 300, 20, 5)
    assert splits != draw_splits(4, 300, 20, 5)
    pairs = [(row["query"], row["document"]) for rows in splits.values() for row in rows]
    assert len(pairs) == len(set(pairs))
    assert max(Counter(row["query"] for row in splits["test"]).values()) == 8
    assert set(Counter(row["rule"] for row in splits["rules"]).values()) == {5}
