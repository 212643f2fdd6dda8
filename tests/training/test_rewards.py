"""Rewards against tables computed by hand."""

import pytest

from relevance.explanation import Explanation, render
from relevance.spec import ScoringSpec
from training import rewards
from training.rewards import SEGMENTS, Answer, Judged, RewardRules, segment_rewards

SCALE = ScoringSpec.preset("minilm-grades").scale  # irrelevant, related, highly relevant, perfect
GOLD = Explanation("usb c cable 2 m", 2, 2, 3, 3, ("USB-C cable", "1 m"), ("2",), 2)
JUDGED = Judged("usb c cable 2 m", "Braided USB-C cable, 1 m, black", 2, GOLD)
RULES = RewardRules("exact", free_tokens=40, max_tokens=60)


def answer(text: str, grade: int | None = 2, ended: bool = True, num_tokens: int = 30) -> Answer:
    return Answer(grade, text, ended, num_tokens)


@pytest.mark.parametrize(
    ("grade", "exact", "ordinal", "tfrank"),
    [
        (0, 0.0, 0.5, 0.25),  # two away: 1 - 2/4; (0 + 1 - 2/4) / 2
        (1, 0.0, 0.75, 0.375),
        (2, 1.0, 1.0, 1.0),
        (3, 0.0, 0.75, 0.375),
        (None, 0.0, 0.0, 0.0),
    ],
)
def test_rewards_of_a_grade_when_gold_is_2(grade: int | None, exact: float, ordinal: float, tfrank: float) -> None:
    kinds = ("exact", "ordinal", "tfrank")
    assert [rewards.grade_reward(kind, grade, 2, 4) for kind in kinds] == [exact, ordinal, tfrank]


@pytest.mark.parametrize(("said", "gold", "reward"), [(3, 3, 1.0), (2, 3, 2 / 3), (0, 3, 0.0), (1, 0, 2 / 3)])
def test_criterion_grades_fall_with_distance(said: int, gold: int, reward: float) -> None:
    assert rewards.criterion_grade(said, gold) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("quotes", "gold", "reward"),
    [
        (("usb-c CABLE",), ("x",), 1.0),  # case and spacing of punctuation do not matter
        (("USB-C cable", "2 m"), ("x",), 0.5),
        (("cable USB-C",), ("x",), 0.0),  # the words are there, not in this order
        ((), ("x",), 0.0),
        ((), (), None),
        ((), None, None),
        ((" ".join(["a"] * 25),), None, 0.0),  # longer than a quote may be
    ],
)
def test_evidence_stands_in_the_document(
    quotes: tuple[str, ...], gold: tuple[str, ...] | None, reward: float | None
) -> None:
    document = "Braided USB-C cable, 1 m, black " + " ".join(["a"] * 30)
    assert rewards.evidence_grounded(quotes, document, gold) == reward


@pytest.mark.parametrize(
    ("said", "gold", "reward"),
    [
        (("2",), ("2",), 1.0),
        ((), (), 1.0),
        ((), ("2",), 0.0),
        (("2", "cable"), ("2",), 2 / 3),  # one right, one in the document: 2 * 1 / (1 + 1 + 1)
        (("wool",), ("2",), 0.0),  # not asked for
        (("2", "wool"), None, 0.5),
        ((), None, None),
    ],
)
def test_missing_terms_are_really_missing(
    said: tuple[str, ...], gold: tuple[str, ...] | None, reward: float | None
) -> None:
    assert rewards.missing_terms(said, JUDGED.query, JUDGED.document, gold) == (
        reward if reward is None else pytest.approx(reward)
    )


@pytest.mark.parametrize(("tokens", "reward"), [(1, 1.0), (40, 1.0), (50, 0.5), (60, 0.0), (90, 0.0)])
def test_length_is_free_then_falls_to_nothing(tokens: int, reward: float) -> None:
    assert rewards.length_reward(tokens, 40, 60) == reward


def test_the_gold_answer_earns_everything() -> None:
    found = segment_rewards(answer(render(GOLD, SCALE)), JUDGED, SCALE, RULES)
    assert tuple(found) == SEGMENTS
    assert all(value == 1.0 for value in found.values())


def test_each_segment_pays_for_its_own_fault_only() -> None:
    said = Explanation("usb c", 0, 2, 3, 2, ("USB-C cable", "2 m"), ("cable",), 3)
    found = segment_rewards(answer(render(said, SCALE), grade=1, num_tokens=50), JUDGED, SCALE, RULES)
    assert {name: value for name, value in found.items() if value != 1.0} == {
        "grade": 0.0,
        "wants": pytest.approx(2 * 2 / (2 + 5)),
        "exactness": pytest.approx(1 / 3),
        "context": pytest.approx(2 / 3),
        "evidence": 0.5,
        "missing": 0.0,
        "verdict": 0.0,  # says 3, the first token said 1
        "end": 0.5,  # half way from free to forbidden length
    }


def test_a_step_that_cannot_be_read_earns_nothing_and_the_end_pays_too() -> None:
    text = render(GOLD, SCALE).replace("topicality: 3", "topicality: very")
    found = segment_rewards(answer(text), JUDGED, SCALE, RULES)
    assert (found["topicality"], found["end"]) == (0.0, 0.0)
    assert found["verdict"] == found["evidence"] == 1.0


def test_a_step_that_is_not_there_is_not_judged_and_the_end_pays() -> None:
    text = render(GOLD, SCALE)
    found = segment_rewards(answer(text[: text.index("evidence")], ended=False), JUDGED, SCALE, RULES)
    assert [name for name, value in found.items() if value is None] == ["evidence", "missing", "verdict"]
    assert (found["context"], found["end"]) == (1.0, 0.0)


def test_without_a_gold_explanation_only_the_texts_judge() -> None:
    found = segment_rewards(answer(render(GOLD, SCALE)), Judged(JUDGED.query, JUDGED.document, 2), SCALE, RULES)
    assert [name for name, value in found.items() if value is None] == list(rewards.CRITERIA)


def test_an_answer_without_a_grade_has_no_format() -> None:
    found = segment_rewards(answer(render(GOLD, SCALE), grade=None), JUDGED, SCALE, RULES)
    assert (found["grade"], found["verdict"], found["end"]) == (0.0, 0.0, 0.0)
