"""The estimate of tokens from bytes: near what comes out, in any script, and never above what a document may have."""

import pytest

from relevance.pair import Pair
from service.tokenise import DEFAULT_CUT, Cut, TokenEstimate, tokenise
from tests.fakes import MAX_TOKENS, byte_tokenizer, fake_spec

ENCODER = fake_spec().encoder(byte_tokenizer())
LITERALS = 2  # <sep><grade>


def estimate() -> TokenEstimate:
    return TokenEstimate(ENCODER, MAX_TOKENS, [Pair("q", "some golden document")])


@pytest.mark.parametrize("text", ["a document", "документ", "", "日本語"])
def test_one_token_a_byte(text: str) -> None:
    pairs = [Pair("q", text), Pair("q", text * 2)]
    real = sum(len(prompt.document_ids) for prompt in tokenise(ENCODER, pairs, DEFAULT_CUT).prompts)
    assert estimate().tokens(pairs, DEFAULT_CUT) == real


def test_what_is_cut_counts_as_cut() -> None:
    pairs = [Pair("q", "x" * 10_000)]
    assert estimate().tokens(pairs, DEFAULT_CUT) == MAX_TOKENS + LITERALS
    assert estimate().tokens(pairs, Cut(max_document_tokens=7)) == 7 + LITERALS


def test_it_follows_the_traffic() -> None:
    one = estimate()
    pairs = [Pair("q", "abcd" * 10)] * 10
    tokenised = tokenise(ENCODER, [Pair("q", "a" * 10)] * 10, DEFAULT_CUT)
    before = one.tokens_per_byte
    for _ in range(3000):
        one.learn(pairs, tokenised)
    assert before == pytest.approx(1.0)
    assert one.tokens_per_byte == pytest.approx(0.25, rel=0.05)


def test_documents_that_were_cut_teach_nothing() -> None:
    one = estimate()
    pairs = [Pair("q", "x" * 50_000)]
    one.learn(pairs, tokenise(ENCODER, pairs, DEFAULT_CUT))
    assert one.tokens_per_byte == pytest.approx(1.0)
