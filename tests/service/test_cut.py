"""How a document is cut: which end stays, how much of it, and that the template's own words always do."""

import pytest

from relevance.pair import Pair
from relevance.prompt import PromptEncoder, PromptLimits, PromptTemplate
from service.tokenise import Cut, tokenise
from tests.tokenizers import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
TEMPLATE = PromptTemplate(name="t", prefix="<s>", query="{query}", document="<doc>: {document} \n", suffix="<ans>")
# <s>, a query of up to 8, <doc>, ":", the document with its blanks, <ans>: 24 tokens in all.
ENCODER = PromptEncoder(TEMPLATE, TOKENIZER, PromptLimits(max_tokens=24, max_query_tokens=8))


def document_of(text: str, cut: Cut) -> tuple[str, bool]:
    tokenised = tokenise(ENCODER, [Pair("query", text)], cut)
    return TOKENIZER.decode(tokenised.prompts[0].document_ids), tokenised.truncated[0]


@pytest.mark.parametrize(
    ("cut", "text", "expected", "is_cut"),
    [
        (Cut(), "abc", "<doc>: abc \n<ans>", False),
        (Cut(), "abcdefghijklmnopqrstuvwxyz", "<doc>: abcdefghijkl \n<ans>", True),
        (Cut(keep="end"), "abc", "<doc>: abc \n<ans>", False),
        (Cut(keep="end"), "abcdefghijklmnopqrstuvwxyz", "<doc>: opqrstuvwxyz \n<ans>", True),
        (Cut(max_document_tokens=6), "abcdefgh", "<doc>: abc \n<ans>", True),
        (Cut(max_document_tokens=6, keep="end"), "abcdefgh", "<doc>: fgh \n<ans>", True),
        (Cut(max_document_tokens=100), "abcdefgh", "<doc>: abcdefgh \n<ans>", False),
    ],
)
def test_ends_and_lengths(cut: Cut, text: str, expected: str, is_cut: bool) -> None:
    assert document_of(text, cut) == (expected, is_cut)


@pytest.mark.parametrize("keep", ["start", "end"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_limit_below_the_blanks_leaves_no_text(keep: str, limit: int) -> None:
    text, is_cut = document_of("abcdefgh", Cut(max_document_tokens=limit, keep=keep))  # type: ignore[arg-type]
    assert is_cut
    assert text.endswith("<ans>")
    assert len(text) <= len("<doc>: a \n<ans>")
