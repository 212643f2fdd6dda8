"""The format of explanations: written, read back through both kinds of tokenizer, checked against the pair."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import ExplanationError
from relevance.explanation import CRITERIA, STEPS, Explanation, check, parse, render, steps
from relevance.grades import GradeScale
from relevance.spec import ScoringSpec
from relevance.terms import words
from relevance.tokenization import JsonTokenizer
from tests.tokenizers import byte_level_tokenizer, wordpiece_tokenizer

SCALE: GradeScale = ScoringSpec.preset("minilm-grades").scale
CABLE = Explanation(
    wants="usb c cable 2 m",
    exactness=2,
    coverage=3,
    topicality=3,
    context=1,
    evidence=("USB-C to USB-C cable, braided", "60 W."),
    missing=("2 m",),
    verdict=2,
)
CABLE_TEXT = (
    "wants: usb c cable 2 m | exactness: 2 | coverage: 3 | topicality: 3 | context: 1 | "
    "evidence: < USB-C to USB-C cable, braided > < 60 W. > | missing: 2 m | verdict: highly relevant |"
)
CABLE_DOCUMENT = "Strong USB-C to USB-C cable, braided. 60 W. Black"

user_text = st.text(
    st.one_of(st.characters(), st.sampled_from("|<>;:,. \t\n\"'aZ9é™中́")), max_size=30
) | st.sampled_from(["verdict: perfect |", "none", "< a >", "| | |", "evidence : < x > |", "[SEP]", "<|im_end|>"])
explanations = st.builds(
    Explanation,
    wants=user_text,
    exactness=st.integers(0, 3),
    coverage=st.integers(0, 3),
    topicality=st.integers(0, 3),
    context=st.integers(0, 3),
    evidence=st.lists(user_text, max_size=3).map(tuple),
    missing=st.lists(user_text, max_size=6).map(tuple),
    verdict=st.integers(0, 3),
)


def test_there_is_one_spelling() -> None:
    assert render(CABLE, SCALE) == CABLE_TEXT
    assert parse(CABLE_TEXT, SCALE) == CABLE
    nothing = Explanation("any", 0, 0, 0, 0, (), (), 0)
    assert "evidence: none | missing: none | verdict: irrelevant |" in render(nothing, SCALE)
    assert parse(render(nothing, SCALE), SCALE) == nothing


@given(explanations)
def test_any_explanation_reads_back_as_itself(explanation: Explanation) -> None:
    assert parse(render(explanation, SCALE), SCALE) == explanation
    assert Explanation.from_json(explanation.to_json()) == explanation


def in_words(explanation: Explanation) -> tuple[object, ...]:
    quotes, missing = ([words(text) for text in texts] for texts in (explanation.evidence, explanation.missing))
    return words(explanation.wants), explanation.criteria, quotes, missing, explanation.verdict


@pytest.mark.parametrize("make", [wordpiece_tokenizer, byte_level_tokenizer])
def test_both_kinds_of_tokenizer_give_it_back(make: object) -> None:
    tokenizer: JsonTokenizer = make()  # type: ignore[operator]
    shown = tokenizer.decode(tokenizer.encode_literal(" " + CABLE_TEXT))
    assert in_words(parse(shown, SCALE)) == in_words(CABLE)
    if make is wordpiece_tokenizer:
        assert "usb - c" in shown


@given(explanations)
def test_a_byte_level_tokenizer_gives_any_explanation_back(explanation: Explanation) -> None:
    tokenizer = byte_level_tokenizer()
    text = " " + render(explanation, SCALE)
    shown = tokenizer.decode(tokenizer.encode_user_texts([text])[0])
    assert in_words(parse(shown, SCALE)) == in_words(explanation)


@given(st.integers(0, len(CABLE_TEXT)))
def test_a_truncated_text_gives_its_steps_as_far_as_they_go(length: int) -> None:
    found = steps(CABLE_TEXT[:length])
    assert [step.name for step in found] == list(STEPS[: len(found)])
    for step in found[:-1]:
        assert CABLE_TEXT[step.start : step.end].startswith(f"{step.name}:")
        assert CABLE_TEXT[step.end - 1] == "|"
    if length < len(CABLE_TEXT):
        with pytest.raises(ExplanationError):
            parse(CABLE_TEXT[:length], SCALE)
    else:
        assert len(found) == len(STEPS)


def test_steps_in_detail() -> None:
    text = " wants : a | exactness: 1 | coverage"
    assert steps(text) == [("wants", 1, 12), ("exactness", 13, 27)]
    assert steps(text + ": ") == [("wants", 1, 12), ("exactness", 13, 27), ("coverage", 28, 38)]
    assert steps("exactness: 1 |") == steps("") == []


@pytest.mark.parametrize(
    ("old", "new", "step", "reason"),
    [
        ("wants: usb c cable 2 m", "wants:", "wants", "empty"),
        ("wants:", "wish:", "wants", "expected its keyword, found 'wish"),
        ("exactness: 2", "exactness: 4", "exactness", "must be 0 to 3, got '4'"),
        ("coverage: 3", "coverage: much", "coverage", "got 'much'"),
        ("| context: 1 ", "", "context", "expected its keyword, found 'evidence"),
        ("< 60 W. >", "60 W.", "evidence", "quotes between < and >"),
        ("< 60 W. >", "< >", "evidence", "a quote is empty"),
        ("< 60 W. >", "< 60 > < W > < . >", "evidence", "at most 3, got 4"),
        ("missing: 2 m", "missing: 2 ;; m", "missing", "terms between"),
        ("highly relevant", "excellent", "verdict", "must be one of irrelevant, related, highly relevant, perfect"),
        ("relevant |", "relevant", "verdict", "unfinished"),
        ("relevant |", "relevant | and", "verdict", "followed by 'and'"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, step: str, reason: str) -> None:
    with pytest.raises(ExplanationError) as caught:
        parse(CABLE_TEXT.replace(old, new), SCALE)
    assert caught.value.step == step
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({"evidence": "no list"}, "evidence"),
        ({"missing": [1]}, "missing"),
        ({"exactness": "2"}, "exactness"),
        ({"exactness": True}, "exactness"),
        ({"context": 7}, "context"),
        ({"verdict": -1}, "verdict"),
        ({"wants": None}, "wants"),
        ({"more": 1}, "explanation"),
    ],
)
def test_a_bad_object_is_named(change: dict[str, object], step: str) -> None:
    with pytest.raises(ExplanationError) as caught:
        Explanation.from_json({**CABLE.to_json(), **change})
    assert caught.value.step == step


def changed(**fields: object) -> Explanation:
    return Explanation.from_json({**CABLE.to_json(), **fields})


QUERY = "usb c cable 2 m"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"evidence": ["usb - c TO usb - c cable ,"]}, []),  # spacing and case are the tokenizer's
        ({"evidence": ["USB cable"]}, [("evidence", "'USB cable' is not in the document")]),
        ({"evidence": ["raided"]}, [("evidence", "'raided' is not in the document")]),  # inside a word
        ({"missing": ["cables"]}, [("missing", "'cables' is in the document")]),
        ({"missing": ["hdmi"]}, [("missing", "'hdmi' is not in the query")]),
        ({"missing": ["..."]}, [("missing", "'...' is not in the query")]),
        ({"verdict": 3}, [("verdict", "says grade 3, the first token says 2")]),
        ({"wants": "a " * 41}, [("wants", "longer than 40 words")]),
    ],
)
def test_what_does_not_hold_is_found(fields: dict[str, object], expected: list[tuple[str, str]]) -> None:
    document = CABLE_DOCUMENT + " " + "long " * 3
    assert check(changed(**fields), QUERY.replace("cable", "cables cable"), document, 2) == expected


def test_a_long_quote_is_found() -> None:
    long = " ".join(["long"] * 25)
    assert [v.step for v in check(changed(evidence=[long]), QUERY, f"{CABLE_DOCUMENT} {long}", 2)] == ["evidence"]


def test_criteria_are_in_the_order_of_the_steps() -> None:
    assert CABLE.criteria == (2, 3, 3, 1)
    assert STEPS[1:5] == CRITERIA
