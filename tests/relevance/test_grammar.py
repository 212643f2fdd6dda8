"""Constrained decoding: every path reads as an explanation and holds; every gold explanation has a path."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import TokenizerError
from relevance.explanation import MAX_QUOTES, MAX_WANTS_WORDS, Explanation, check, parse
from relevance.grammar import AnswerGrammar, PairGrammar
from relevance.grammar_parts import Pick
from relevance.prompt import PromptEncoder, PromptLimits
from relevance.spans import QuotableSpans
from relevance.spec import ScoringSpec
from relevance.terms import words
from relevance.tokenization import JsonTokenizer
from tests.tokenizers import CharacterTokenizer, byte_level_tokenizer, wordpiece_tokenizer

SCALE = ScoringSpec.preset("minilm-grades").scale
TOKENIZERS = {"wordpiece": wordpiece_tokenizer, "byte level": byte_level_tokenizer}
GRAMMARS = {name: AnswerGrammar(make(), SCALE) for name, make in TOKENIZERS.items()}
both_kinds = pytest.mark.parametrize("kind", list(TOKENIZERS))

QUERY = "what is the best 3 m usb-c cable in red?"
DOCUMENT = "Anker USB-C to USB-C Cable, braided nylon, 2 m, 60 W. Color: black (matte)"
GOLD = Explanation(
    wants="best 3 m usb-c cable in red",
    exactness=1,
    coverage=2,
    topicality=3,
    context=2,
    evidence=("USB-C to USB-C Cable,", "2 m"),
    missing=("best", "3", "red"),
    verdict=1,
)
texts = st.lists(
    st.sampled_from(
        [*"abZ9.,;:|<>\"'(-", *QUERY.split(), *DOCUMENT.split(), "é", "e\u0301", "中文", "™", "🙂", "[SEP]", "none"]
    )
    | st.text(max_size=6),
    max_size=25,
).flatmap(lambda pieces: st.sampled_from(["", " ", "\n"]).map(lambda blank: blank.join(pieces)))


def open_pair(kind: str, query: str, document: str, grade: int = 1, max_tokens: int | None = None) -> PairGrammar:
    grammar = GRAMMARS[kind]
    ids = grammar.tokenizer.encode_user_texts([document.strip()])[0]
    is_cut = max_tokens is not None and len(ids) > max_tokens
    return grammar.for_pair(query, document, ids[:max_tokens], grade, "start" if is_cut else None)


def decode(pair: PairGrammar, choose: Callable[[tuple[int, ...]], int]) -> list[int]:
    """The tokens of one path."""
    state, ids = pair.start(), []
    while not pair.is_done(state):
        token = choose(pair.allowed(state))
        state = pair.advance(state, token)
        ids.append(token)
    assert pair.allowed(state) == ()
    return ids


def read(kind: str, ids: list[int]) -> Explanation:
    return parse(GRAMMARS[kind].tokenizer.decode(ids), SCALE)


@both_kinds
@given(texts, texts, st.integers(0, 3), st.none() | st.integers(1, 30), st.integers(0, 2**32))
def test_every_path_reads_as_an_explanation_that_holds(
    kind: str, query: str, document: str, grade: int, max_tokens: int | None, seed: int
) -> None:
    pair = open_pair(kind, query, document, grade, max_tokens)
    rng = random.Random(seed)
    found = read(kind, decode(pair, lambda allowed: rng.choice(sorted(allowed))))
    assert check(found, query, document, grade) == []


@both_kinds
@given(texts, texts, st.integers(0, 2**32))
def test_what_a_path_says_is_encoded_as_a_path_that_says_the_same(
    kind: str, query: str, document: str, seed: int
) -> None:
    pair = open_pair(kind, query, document)
    rng = random.Random(seed)
    said = read(kind, decode(pair, lambda allowed: rng.choice(sorted(allowed))))
    ids = iter(pair.encode(said))
    again = read(kind, decode(pair, lambda allowed: next(t for t in [next(ids)] if t in allowed)))
    assert next(ids, None) is None
    assert again.criteria == said.criteria
    assert again.missing == said.missing
    assert [words(quote) for quote in again.evidence[:1]] == [words(quote) for quote in said.evidence[:1]]


@both_kinds
def test_a_gold_explanation_is_a_path(kind: str) -> None:
    again = read(kind, open_pair(kind, QUERY, DOCUMENT).encode(GOLD))
    assert words(again.wants) == words(GOLD.wants)
    assert (again.criteria, again.missing, again.verdict) == (GOLD.criteria, GOLD.missing, GOLD.verdict)
    assert [words(quote) for quote in again.evidence] == [words(quote) for quote in GOLD.evidence]


def test_a_gold_explanation_loses_what_does_not_hold() -> None:
    wrong = Explanation(
        "something else",
        0,
        0,
        0,
        0,
        (
            "! Cable, braided",
            "USB cable",
            "B-C to",
        ),
        ("cable", "hdmi"),
        3,
    )
    again = read("byte level", open_pair("byte level", QUERY, DOCUMENT).encode(wrong))
    assert again == Explanation("best 3 usb-c cable red", 0, 0, 0, 0, ("Cable, braided",), (), 1)


@both_kinds
def test_what_may_be_chosen(kind: str) -> None:
    pair = open_pair(kind, QUERY, DOCUMENT)
    decoded = GRAMMARS[kind].tokenizer.decode
    run, state = pair.forced_run(pair.start())
    assert decoded(run).split() == ["wants", ":"] or decoded(run) == " wants:"
    rest = pair.encode(GOLD)[len(run) :]
    seen: list[set[str]] = []
    for token in rest:
        allowed = pair.allowed(state)
        seen.append({decoded([t]).strip() for t in allowed})
        state = pair.advance(state, token)
    criteria = [choices for choices in seen if choices == {"0", "1", "2", "3"}]
    assert len(criteria) == 4
    assert pair.is_done(state)
    if kind == "wordpiece":
        assert {"none", "best", "3", "red"} in seen  # what is missing
        assert {"none", "<"} in seen  # whether there is evidence


def test_quotes_begin_and_end_at_words() -> None:
    tokenizer = wordpiece_tokenizer()
    ids = tokenizer.encode_user_texts(["nonconformity | braids"])[0]  # non ##con ##form ##ity | braid ##s
    spans = QuotableSpans(ids, GRAMMARS["wordpiece"].surfaces, 24)
    assert [tokenizer.decode([t]) for t in ids] == ["non", "##con", "##form", "##ity", "|", "braid", "##s"]
    assert spans.starts == [0, 5]
    assert [(s, p) for s in (0, 5) for p in range(s, 8) if spans.can_end(s, p)] == [(0, 4), (0, 7), (5, 7)]
    assert not spans.can_go_on(0, 4)
    assert QuotableSpans(ids, GRAMMARS["wordpiece"].surfaces, 3).starts == [5]  # the first word is too long
    assert QuotableSpans(ids, GRAMMARS["wordpiece"].surfaces, 24, kept="start").starts == [0]  # the last may be cut
    assert QuotableSpans(ids[1:], GRAMMARS["wordpiece"].surfaces, 24, kept="end").starts == [4]


@both_kinds
def test_words_of_the_template_are_not_quoted(kind: str) -> None:
    tokenizer = GRAMMARS[kind].tokenizer
    special = {"wordpiece": "[SEP]", "byte level": "<|im_end|>"}[kind]
    template = ScoringSpec.preset("minilm-grades").template.model_copy(
        update={"document": f"{special} text: {{document}} {special}", "suffix": special}
    )
    encoder = PromptEncoder(
        template, tokenizer, PromptLimits(max_tokens=300, max_query_tokens=8, max_instruction_tokens=8)
    )
    segment = encoder.encode_documents(encoder.encode_prefix("a"), [DOCUMENT])[0].ids
    own = tokenizer.decode(encoder.document_ids(segment))
    assert words(own) == words(DOCUMENT)
    spans = QuotableSpans(segment, GRAMMARS[kind].surfaces, 24)
    assert not {p for p, token in enumerate(segment) if tokenizer.decode([token]) == special}.intersection(spans.starts)
    (mark,) = tokenizer.encode_literal(special)
    cut = [mark, *tokenizer.encode_user_texts(["see nonconformity"])[0][:-1], mark]
    pair = GRAMMARS[kind].for_pair("x", "see nonconformity", cut, 0, kept="start")
    rng = random.Random(0)
    first = {read(kind, decode(pair, lambda allowed: rng.choice(sorted(allowed)))).evidence[:1] for _ in range(60)}
    assert first == {(), ("see",)}  # what is cut off is no word


@both_kinds
def test_quotes_are_in_order_and_apart(kind: str) -> None:
    document = "one two three four five six"
    pair = open_pair(kind, "seven", document)
    rng = random.Random(0)
    for _ in range(40):
        found = read(kind, decode(pair, lambda allowed: rng.choice(sorted(allowed))))
        said = [word for quote in found.evidence for word in words(quote)]
        assert len(found.evidence) <= MAX_QUOTES
        assert len(set(said)) == len(said)
        assert said == sorted(said, key=words(document).index)


@both_kinds
def test_a_short_query_wants_all_that_names_something(kind: str) -> None:
    pair = open_pair(kind, "what is the cable for a cable hub?", DOCUMENT)
    rng = random.Random(0)
    wants = {read(kind, decode(pair, lambda allowed: rng.choice(sorted(allowed)))).wants for _ in range(40)}
    assert all("cable" in said and said.index("cable") < said.index("hub") for said in wants)
    assert len(wants) > 5  # other words may come or not
    said = Explanation("something else", 0, 0, 0, 0, (), (), 1)
    assert read(kind, pair.encode(said)).wants == "cable hub"


@both_kinds
def test_a_quote_has_a_word_of_the_query(kind: str) -> None:
    def quotes(query: str, document: str) -> set[str]:
        pair = open_pair(kind, query, document)
        rng = random.Random(0)
        paths = [decode(pair, lambda allowed: rng.choice(sorted(allowed))) for _ in range(200)]
        return {quote.lower() for path in paths for quote in read(kind, path).evidence}

    with_hub = quotes("the hub", "the red hub is the best")
    assert {"hub", "the red hub is the best"} <= with_hub
    assert all("hub" in quote.split() for quote in with_hub)
    without = quotes("the cup", "the red hub is the best")  # no word of the query: any that says something
    assert {"red", "best"} <= without
    assert not without & {"the", "is", "is the"}
    assert "60" not in quotes("the hub", "the 60 red hub")
    assert "60" in quotes("the 70 hub", "the 60 red hub")


@both_kinds
def test_there_are_at_most_three_quotes(kind: str) -> None:
    pair = open_pair(kind, "x", "hub hub hub hub hub hub")
    close, open_ = (GRAMMARS[kind].tokenizer.encode_literal(f" {mark}")[0] for mark in "><")

    def eager(allowed: tuple[int, ...]) -> int:
        return next((token for token in (close, open_) if token in allowed), min(allowed))

    assert GRAMMARS[kind].tokenizer.decode(decode(pair, eager)).count("<") == MAX_QUOTES


@both_kinds
def test_quotes_that_read_alike_are_found_one_behind_the_other(kind: str) -> None:
    gold = Explanation("x", 0, 0, 0, 0, ("red cup", "cup"), (), 1)
    path = open_pair(kind, "x", "a red cup, a red hat and a cup").encode(gold)
    assert read(kind, path).evidence == gold.evidence


def test_quotes_do_not_end_in_a_blank() -> None:
    ids = byte_level_tokenizer().encode_user_texts(["60 7"])[0]  # a digit has no blank of its own
    spans = QuotableSpans(ids, GRAMMARS["byte level"].surfaces, 24)
    assert [byte_level_tokenizer().decode([t]) for t in ids] == ["6", "0", " ", "7"]
    assert [p for p in range(5) if spans.can_end(0, p)] == [2, 4]


@both_kinds
def test_a_repeated_beginning_keeps_both_ways_open(kind: str) -> None:
    ids = GRAMMARS[kind].tokenizer.encode_user_texts
    pair = open_pair(kind, "x", "a red cup and a red hat")
    _, state = pair.forced_run(pair.start())
    path = pair.encode(Explanation("x", 0, 0, 0, 0, ("a red cup",), (), 0))
    at = path.index(ids([" red"])[0][-1])
    run = path[len(pair.forced_run(pair.start())[0]) : at + 1]
    for token in run:
        state = pair.advance(state, token)
    allowed = set(pair.allowed(state))
    assert {ids([" cup"])[0][0], ids([" hat"])[0][0]} <= allowed


def test_long_queries_stay_within_the_limit() -> None:
    query = " ".join(f"word{i}" for i in range(80))
    pair = open_pair("wordpiece", query, DOCUMENT)
    found = read("wordpiece", decode(pair, max))
    assert len(words(found.wants)) <= MAX_WANTS_WORDS


def test_a_token_that_is_not_allowed_is_refused() -> None:
    pair = open_pair("wordpiece", QUERY, DOCUMENT)
    with pytest.raises(ValueError, match="token 7 is not allowed"):
        pair.advance(pair.start(), 7)


def test_states_do_not_change() -> None:
    pair = open_pair("byte level", QUERY, DOCUMENT)
    _, state = pair.forced_run(pair.start())
    before = sorted(pair.allowed(state))
    pair.forced_run(pair.advance(state, before[0]))
    assert sorted(pair.allowed(state)) == before


def test_a_vocabulary_that_cannot_spell_the_template_is_refused() -> None:
    class NoBar(CharacterTokenizer):
        def encode_literal(self, text: str) -> list[int]:
            return [0 if c == "|" else 5 + ord(c) for c in text]

    with pytest.raises(TokenizerError, match=r"cannot spell '\| exactness: 0'"):
        AnswerGrammar(NoBar(), SCALE)

    class Doubled(CharacterTokenizer):
        def encode_literal(self, text: str) -> list[int]:
            return [token for c in text for token in [5 + ord(c)] * (1 + (c in "123"))]

    with pytest.raises(TokenizerError, match="criterion grades are not one token each"):
        AnswerGrammar(Doubled(), SCALE)


def test_a_pick_passes_over_no_required_option() -> None:
    pick = Pick([[1], [2], [3], [4]], [1] * 4, 9, required=[1])
    assert [token for token, _ in pick.moves(pick.start)] == [1, 2]
    assert not pick.is_end((1, 0, 1, 1))
    assert [token for token, _ in pick.moves((1, 0, 1, 1))] == [2]
    assert pick.is_end((1, 1, 1, 2))
    assert [token for token, _ in pick.moves((1, 1, 1, 2))] == [3, 4]


def test_a_pick_takes_at_least_one() -> None:
    pick = Pick([[1, 2], [3]], [1, 1], 1, between=[9])
    assert pick.moves(pick.start) == [(1, (1, 0, 1, 1)), (3, (1, 1, 1, 1))]
    assert not pick.is_end(pick.start)
    assert list(pick.moves((1, 0, 2, 1))) == []  # one is the most
    assert pick.is_end((1, 0, 2, 1))


def test_kinds_are_what_they_say() -> None:
    made: list[JsonTokenizer] = [make() for make in TOKENIZERS.values()]
    assert [tokenizer.decode(tokenizer.encode_literal("USB-C")) for tokenizer in made] == ["usb - c", "USB-C"]
