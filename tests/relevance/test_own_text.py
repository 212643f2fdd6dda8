"""What was copied is found again, character by character, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.own_text import OwnText
from relevance.terms import placed_words, words

TEXT = "1 m  USB-C to\n USB-C Cable, 5cm; Größe L — Cafe\u0301 naïve 東京タワー 한국어 <b>x|y</b> b"
TEXTS = st.text(st.sampled_from("aB ß-É\u0301İ東한.|<;\t\x01_9ﬁ\u200d "), max_size=14)


@pytest.mark.parametrize(
    ("copied", "own"),
    [
        ("usb - c to usb - c cable", "USB-C to\n USB-C Cable"),
        ("usb - c cable", "USB-C Cable"),
        ("grosse l", "Größe L"),
        ("cafe naive", "Cafe\u0301 naïve"),
        ("cafe", "Cafe\u0301"),
        ("東 京", "東京"),
        ("한국어", "한국어"),
        ("x / y", "x|y"),
        ("5cm ,", "5cm;"),
        ("cable ,", "Cable,"),
        ("c to c", None),
        ("cm", None),
        ("", None),
        ("  ", None),
    ],
)
def test_a_quote_is_a_part_of_its_text(copied: str, own: str | None) -> None:
    assert OwnText(TEXT).quote(copied) == own


@pytest.mark.parametrize(
    ("copied", "own"),
    [
        ("usb - c cable", "USB-C Cable"),
        ("m usb - c l", "m USB-C L"),
        ("1 m usb - c to usb - c", "1 m USB-C to USB-C"),
        ("cable usb", None),
        ("", None),
    ],
)
def test_picked_words_keep_their_order_and_may_leave_some_out(copied: str, own: str | None) -> None:
    assert OwnText(TEXT).pick(copied) == own


@given(TEXTS)
def test_placed_words_are_the_words(text: str) -> None:
    placed = placed_words(text)
    assert [word for word, _, _ in placed] == words(text)
    assert all(words(text[start:end])[:1] == [word] for word, start, end in placed)


@given(TEXTS, st.integers(0, 14), st.integers(0, 14))
def test_any_run_of_words_is_found_and_reads_the_same(text: str, first: int, last: int) -> None:
    run = words(text)[first : last + 1]
    found = OwnText(text).quote(" ".join(run))
    if not run:
        assert found is None
    else:
        assert found is not None
        assert found in text
        assert words(found) == run
