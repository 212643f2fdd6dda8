import pytest
from pydantic import ValidationError

from relevance.errors import LabelTokenError
from relevance.grades import Grade, GradeScale
from tests.tokenizers import CharacterTokenizer


def scale(*labels: str) -> GradeScale:
    return GradeScale(grades=tuple(Grade(name=f"g{i}", gain=i, label=text) for i, text in enumerate(labels)))


def test_labels_resolve_in_grade_order() -> None:
    assert scale("1", "0", "ab").resolve_label_token_ids(CharacterTokenizer()) == (5 + ord("1"), 5 + ord("0"), 4)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("no", "y"), r"'no' of grade 'g0' must be exactly one token, this tokenizer makes 2"),
        (("[UNK]", "y"), "not in the vocabulary"),
    ],
)
def test_a_label_that_is_not_one_token_is_refused(labels: tuple[str, ...], reason: str) -> None:
    with pytest.raises(LabelTokenError, match=reason):
        scale(*labels).resolve_label_token_ids(CharacterTokenizer())


def test_labels_that_share_a_token_are_refused() -> None:
    class CaseBlind(CharacterTokenizer):
        def encode_literal(self, text: str) -> list[int]:
            return super().encode_literal(text.lower())

    with pytest.raises(LabelTokenError, match=r"'y' .* and 'Y' .* are the same token"):
        scale("y", "Y").resolve_label_token_ids(CaseBlind())


@pytest.mark.parametrize(
    "grades",
    [
        [("a", 0, "0")],
        [("a", 0, "0"), ("a", 1, "1")],
        [("a", 0, "0"), ("b", 1, "0")],
        [("a", 1, "0"), ("b", 0, "1")],
        [("a", -1, "0"), ("b", 0, "1")],
    ],
    ids=["one grade", "same name", "same label", "falling gains", "negative gain"],
)
def test_a_broken_scale_is_refused(grades: list[tuple[str, float, str]]) -> None:
    with pytest.raises(ValidationError):
        GradeScale(grades=tuple(Grade(name=n, gain=g, label=label) for n, g, label in grades))
