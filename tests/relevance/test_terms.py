"""When two texts say the same words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.terms import RESERVED, Words, clean, is_content, keys, terms, words


def test_words_are_those_of_a_lower_casing_tokenizer() -> None:
    assert words("USB-C,  24in\u200b Café\tnaïve") == ["usb", "-", "c", ",", "24in", "cafe", "naive"]
    assert words("usb - c , 24in cafe naive") == words("USB-C, 24IN café naïve")
    assert words("中文 test_x ™") == ["中", "文", "test", "_", "x", "™"]
    assert words("a\x0bb a\nb") == ["ab", "a", "b"]


@given(st.text())
def test_cleaning_changes_no_word_and_leaves_nothing_reserved(text: str) -> None:
    assert words(clean(text)) == words(text)
    assert clean(clean(text)) == clean(text)
    assert not set(clean(text)).intersection(RESERVED)


def test_terms_of_a_query() -> None:
    assert terms("What is (a) 3/8 in. USB-C cable?! -- ") == ["What", "is", "a", "3/8", "in", "USB-C", "cable"]
    assert [term for term in terms("what is the 2 m usb cable") if is_content(term)] == ["2", "usb", "cable"]


def test_keys_forget_spelling() -> None:
    assert keys("24-inch Boxes, batteries") == keys("24 in. box battery")
    assert keys("3 feet glass bus") == ["3", "ft", "glass", "bus"]


@pytest.mark.parametrize(
    ("term", "lacking"),
    [
        ("24 inch", False),
        ("24", False),
        ("2", True),
        ("stool", False),
        ("bar stools", False),
        ("barstool", False),
        ("ar", True),
        ("black", True),
        ("red bonded", True),
        ("1-1/4", False),
        ("...", False),
    ],
)
def test_lacking_means_no_spelling_is_there(term: str, lacking: bool) -> None:
    assert Words.of("OSPdesigns 24 in. Bonded Leather Barstool in Red 1 1/4").lacks(term) is lacking


def test_quotes_are_whole_words_in_a_row() -> None:
    document = Words.of("Bonded Leather Barstool, red")
    assert document.has_quote("leather barstool ,")
    assert not document.has_quote("leather bar")
    assert not document.has_quote("bonded barstool")
    assert not document.has_quote(" ")
