"""Tokens to events: nothing broken is said, nothing that was said changes."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.explanation import STEPS, parse
from relevance.grades import Grade, GradeScale
from relevance.grammar import AnswerGrammar
from relevance.own_text import OwnText
from relevance.terms import words
from relevance.tokenization import JsonTokenizer
from service.explaining.events import Delta, Step
from service.explaining.writer import ExplanationWriter, Sources
from tests.fakes import byte_tokenizer
from tests.tokenizers import byte_level_tokenizer, wordpiece_tokenizer

SCALE = GradeScale(
    grades=tuple(Grade(name=name, gain=gain, label=str(gain)) for gain, name in enumerate(("no", "highly relevant")))
)
TOKENIZERS = {"bytes": byte_tokenizer(), "bpe": byte_level_tokenizer(), "wordpiece": wordpiece_tokenizer()}
NO_SOURCES = Sources(OwnText(""), OwnText(""))
TEXTS = st.text(st.sampled_from("ab cü 日本語🙂é\u0301,.-'|<;60 \ufffd"), max_size=40)


def random_answer(tokenizer: JsonTokenizer, query: str, document: str, seed: int) -> list[int]:
    rng = random.Random(seed)
    (ids,) = tokenizer.encode_user_texts([document])
    pair = AnswerGrammar(tokenizer, SCALE).for_pair(query, document, ids, 1)
    said, state = pair.forced_run(pair.start())
    while not pair.is_done(state):
        token = rng.choice(pair.allowed(state))
        run, state = pair.forced_run(pair.advance(state, token))
        said += [token, *run]
    return said


@pytest.mark.parametrize("name", TOKENIZERS)
@given(query=TEXTS, document=TEXTS, seed=st.integers(0, 5), length=st.integers(1, 7))
def test_pieces_make_the_values_and_the_values_the_explanation(
    name: str, query: str, document: str, seed: int, length: int
) -> None:
    tokenizer = TOKENIZERS[name]
    tokens = random_answer(tokenizer, query, document, seed)
    expected = parse(tokenizer.decode(tokens), SCALE)
    writer = ExplanationWriter(tokenizer, SCALE, Sources(OwnText(query), OwnText(document)))
    pieces: dict[str, str] = {}
    values: dict[str, Any] = {}
    for start in range(0, len(tokens), length):
        for event in writer.write(tokens[start : start + length]):
            if isinstance(event, Delta):
                assert event.step not in values
                assert event.text
                pieces[event.step] = pieces.get(event.step, "") + event.text
                assert "\ufffd" not in pieces[event.step].rstrip("\ufffd") or "\ufffd" in query + document
            else:
                values[event.name] = event.value
    assert writer.is_complete
    assert tuple(values) == STEPS
    found = expected.to_json()
    assert {name: values[name] for name in STEPS if name not in ("evidence", "missing", "wants")} == {
        name: found[name] for name in STEPS if name not in ("evidence", "missing", "wants")
    }
    assert {tuple(words(text)) for text in values["evidence"]} == {tuple(words(text)) for text in expected.evidence}
    assert all(text in document for text in values["evidence"])
    assert {tuple(words(text)) for text in values["missing"]} == {tuple(words(text)) for text in expected.missing}
    assert all(text in query for text in values["missing"])
    assert [len(set(values[name])) for name in ("evidence", "missing")] == [
        len(values[name]) for name in ("evidence", "missing")
    ]
    assert words(values["wants"]) == words(expected.wants)
    text = tokenizer.decode(tokens)
    assert all(piece in text for piece in pieces.values())


def test_a_character_is_said_once_it_is_whole() -> None:
    tokenizer = byte_tokenizer()
    tokens = tokenizer.encode_literal(" wants: 日")
    writer = ExplanationWriter(tokenizer, SCALE, NO_SOURCES)
    events = [writer.write([token]) for token in tokens]
    assert events[-1] == [Delta("wants", "日")]
    assert not any(events[:-1])


def test_a_blank_at_the_end_of_a_step_is_not_said() -> None:
    tokenizer = byte_tokenizer()
    writer = ExplanationWriter(tokenizer, SCALE, NO_SOURCES)
    assert writer.write(tokenizer.encode_literal(" wants: usb ")) == [Delta("wants", "usb")]
    assert writer.write(tokenizer.encode_literal("c ")) == [Delta("wants", " c")]
    assert writer.write(tokenizer.encode_literal("|")) == [Step("wants", "usb c")]
    assert not writer.is_complete


def test_what_is_copied_is_said_as_it_stands_there() -> None:
    tokenizer = wordpiece_tokenizer()
    sources = Sources(OwnText("Best USB-C Cable"), OwnText("A Cable: USB-C!"))
    writer = ExplanationWriter(tokenizer, SCALE, sources)
    said = " wants: usb - c cable | exactness: 1 | coverage: 1 | topicality: 1 | context: 1 | evidence: < usb - c > |"
    events = writer.write(tokenizer.encode_literal(f"{said} missing: best ; none |"))
    values = {event.name: event.value for event in events if isinstance(event, Step)}
    assert values["wants"] == "USB-C Cable"
    assert values["evidence"] == ["USB-C"]
    assert values["missing"] == ["Best", "none"]  # what stands nowhere stays as it was said
    pieces = "".join(event.text for event in events if isinstance(event, Delta) and event.step == "evidence")
    assert pieces == "< usb - c >"
