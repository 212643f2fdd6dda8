"""Figures of an arm against values computed by hand, and its decoding against plain forward passes."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from relevance.explanation import Explanation
from tests.training.grpo.conftest import ROWS, SPEC
from tests.training.grpo.test_answers import END, PlainDigits
from training.arms.config import Arm, ArmsConfig
from training.arms.distil import Lesson, lesson_loss, unlabelled_pairs
from training.arms.evaluate import (
    entropy,
    explanation_figures,
    grade_figures,
    greedy_answers,
    next_label_logits,
    rare_and_common,
    rule_recall,
)
from training.config import ConfigError
from training.grpo.answers import AnswerCodec, AnswerPair
from training.grpo.stage import BaseCheckpoint

RULES_AND_GRADES = (("exact", 0), ("exact", 3), ("negated", 0))
PAIRS = [AnswerPair("q", "d", grade, None, rule) for rule, grade in RULES_AND_GRADES]
LOGITS = np.log(np.array([[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]]))


def test_recall_per_rule_and_over_rare_and_common_rules() -> None:
    recall = rule_recall(LOGITS, PAIRS)
    assert recall == {"exact": 0.5, "negated": 0.0}
    assert rare_and_common(recall) == {"rare_recall": 0.0, "common_recall": 0.5}


def test_temperature_changes_calibration_and_nothing_else() -> None:
    plain, warm = (grade_figures(LOGITS, PAIRS, SPEC.scale.gains, t) for t in (1.0, 3.0))
    assert {key for key in plain if plain[key] != pytest.approx(warm[key], nan_ok=True)} == {"ece"}
    assert plain["accuracy"] == pytest.approx(1 / 3)
    assert plain["f1_grade_0"] == pytest.approx(2 / 4)


def test_entropy_of_a_certain_and_an_undecided_grade() -> None:
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(math.log(2) / 2)


def test_explanations_are_counted_by_what_holds() -> None:
    codec = AnswerCodec(SPEC, PlainDigits(), END)
    pair = AnswerPair("red kettle", "red bucket", 1)
    good = Explanation("red kettle", 1, 1, 1, 1, ("red",), ("kettle",), 1)
    bad = Explanation("red kettle", 1, 1, 1, 1, ("blue",), ("red",), 3)
    answers = [
        codec.gold(AnswerPair(pair.query, pair.document, 1, good)),
        [codec.label_token_ids[2], *codec.gold(AnswerPair(pair.query, pair.document, 3, bad))[1:]],
        [codec.label_token_ids[1], END],
    ]
    figures = explanation_figures(answers, [pair] * 3, codec)
    assert figures.pop("answer_tokens") == pytest.approx(np.mean([len(a) for a in answers]))
    assert figures == {"readable": 2 / 3, "consistent": 0.5, "grounded": 0.5, "truly_missing": 0.5}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_padding_changes_neither_grades_nor_answers(answering: Path) -> None:
    codec = BaseCheckpoint(str(answering), None).codec("grade_first")
    model = AutoModelForCausalLM.from_pretrained(answering)
    prompts = [codec.prompt(AnswerPair(row["query"], row["document"], 0)) for row in ROWS[:6]]
    assert len({len(prompt) for prompt in prompts}) > 1
    together, alone = next_label_logits(model, prompts, codec), [next_label_logits(model, [p], codec) for p in prompts]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4)
    answers = greedy_answers(model, prompts[:3], codec)
    assert answers == [greedy_answers(model, [p], codec)[0] for p in prompts[:3]]
    ids = torch.tensor([prompts[0] + answers[0][:4]])
    with torch.inference_mode():
        said = model(input_ids=ids).logits[0].argmax(-1).tolist()
    assert said[len(prompts[0]) - 1 : -1] == answers[0][:4]


def arm(**fields: object) -> Arm:
    return Arm.model_validate({"name": "a", "says": "", "kind": "distilled", "teacher": "t", **fields})


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_student_learns_the_distribution_the_text_or_both(answering: Path) -> None:
    codec = BaseCheckpoint(str(answering), None).codec("grade_first")
    model = AutoModelForCausalLM.from_pretrained(answering).eval()
    row = ROWS[0]
    pair = AnswerPair(row["query"], row["document"], row["grade"], Explanation.from_json(row["explanation"]))
    prompt, answer = codec.prompt(pair), codec.gold(pair)
    lesson = Lesson(prompt, answer, np.array([0.1, 0.2, 0.3, 0.4]))
    with torch.inference_mode():
        log_p = torch.log_softmax(model(input_ids=torch.tensor([prompt + answer])).logits[0], -1)
        tokens = log_p[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])[:, 0]
        soft = -(torch.tensor(lesson.distribution).float() * log_p[len(prompt) - 1, list(codec.label_token_ids)]).sum()
        text = -tokens[1:].mean()
        grades, words, both = (
            float(lesson_loss(model, [lesson], codec, arm(**fields)))
            for fields in ({"grades": True}, {"explanations": True}, {"grades": True, "explanations": True})
        )
    assert grades == pytest.approx(float(soft), rel=1e-5)
    assert words == pytest.approx(float(-0.5 * tokens[0] + 0.5 * text), rel=1e-5)
    assert both == pytest.approx(float(soft + text), rel=1e-5)


def test_unlabelled_pairs_carry_no_grade_and_some_foreign_documents() -> None:
    pairs = [AnswerPair(f"q{i}", f"d{i}", 3, None, "exact") for i in range(100)]
    drawn = unlabelled_pairs(pairs, random.Random(0))
    assert {pair.grade for pair in drawn} == {0}
    assert 30 < sum(pair.query[1:] == pair.document[1:] for pair in drawn) < 70


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ('[[arms]]\nname = "a"\nsays = ""\nkind = "policy"\nstart = "b"\n', "'b' is no arm before it"),
        ('[[arms]]\nname = "a"\nsays = ""\nkind = "distilled"\n', "needs a teacher"),
        ('[[arms]]\nname = "a"\nsays = ""\nkind = "policy"\n' * 2, "two arms are called 'a'"),
    ],
)
def test_bad_arms_are_named(tmp_path: Path, arms: str, message: str) -> None:
    source = (Path(__file__).parents[3] / "configs" / "training" / "arms.toml").read_text()
    (tmp_path / "c.toml").write_text(source[: source.index("[[arms]]")] + arms)
    with pytest.raises(ConfigError, match=message):
        ArmsConfig.from_toml(tmp_path / "c.toml")
