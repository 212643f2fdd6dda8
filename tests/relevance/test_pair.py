from hypothesis import given
from hypothesis import strategies as st

from relevance.pair import Pair

TEXT = st.text(max_size=8)
PAIRS = st.builds(Pair, TEXT, TEXT, st.none() | TEXT)


@given(PAIRS, PAIRS)
def test_keys_are_equal_exactly_for_equal_pairs(left: Pair, right: Pair) -> None:
    assert (left.content_key() == right.content_key()) == (left == right)


def test_moving_a_character_between_the_texts_changes_the_key() -> None:
    assert Pair("ab", "c").content_key() != Pair("a", "bc").content_key()


def test_an_empty_instruction_is_not_a_missing_one() -> None:
    assert Pair("a", "b", "").content_key() != Pair("a", "b").content_key()
