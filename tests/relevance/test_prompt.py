import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relevance.errors import PromptError
from relevance.prompt import CHARACTERS_PER_TOKEN, PromptEncoder, PromptLimits, PromptTemplate
from tests.tokenizers import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
TEMPLATE = PromptTemplate(
    name="test",
    prefix="<s>",
    instruction="I: {instruction}|",
    default_instruction=None,
    query="Q: {query}\n",
    document="<doc>{document}",
    suffix="<ans>",
)
LIMITS = PromptLimits(max_tokens=60, max_query_tokens=12, max_instruction_tokens=10)


def encoder(template: PromptTemplate = TEMPLATE, limits: PromptLimits = LIMITS) -> PromptEncoder:
    return PromptEncoder(template, TOKENIZER, limits)


def render(query: str, document: str, instruction: str | None = None) -> str:
    prefix = encoder().encode_prefix(query, instruction)
    (segment,) = encoder().encode_documents(prefix, [document])
    return TOKENIZER.decode(prefix.ids) + TOKENIZER.decode(segment.ids)


def test_renders_the_template_in_order() -> None:
    assert render("cable", "a plug") == "<s>Q: cable\n<doc>a plug<ans>"
    assert render("cable", "a plug", "shop") == "<s>I: shop|Q: cable\n<doc>a plug<ans>"


def test_outer_white_space_of_user_text_does_not_matter() -> None:
    assert render("  cable\n", "\t a plug ") == render("cable", "a plug")


def test_default_instruction_is_used_when_none_is_given() -> None:
    with_default = encoder(TEMPLATE.model_copy(update={"default_instruction": "web"}))
    assert TOKENIZER.decode(with_default.encode_prefix("x").ids) == "<s>I: web|Q: x\n"
    assert TOKENIZER.decode(with_default.encode_prefix("x", "shop").ids) == "<s>I: shop|Q: x\n"


def test_special_tokens_in_user_text_stay_plain_characters() -> None:
    prefix = encoder().encode_prefix("<s>")
    (segment,) = encoder().encode_documents(prefix, ["<ans>2"])
    assert prefix.ids.count(1) == 1
    assert segment.ids.count(3) == 1
    assert segment.ids[-1] == 3


def test_long_document_is_cut_and_the_suffix_stays() -> None:
    prefix = encoder().encode_prefix("cable")
    short, long = encoder().encode_documents(prefix, ["a", "b" * 200])
    assert (short.truncated, long.truncated) == (False, True)
    assert len(prefix.ids) + len(long.ids) == LIMITS.max_tokens
    assert TOKENIZER.decode(long.ids).endswith("b<ans>")


def test_a_document_that_just_fits_is_not_truncated() -> None:
    prefix = encoder().encode_prefix("cable")
    room = LIMITS.max_tokens - len(prefix.ids) - 2  # <doc>, <ans>
    fits, over = encoder().encode_documents(prefix, ["b" * room, "b" * (room + 1)])
    assert (fits.truncated, over.truncated) == (False, True)
    assert fits.ids == over.ids


def test_long_query_is_cut_reported_and_keeps_what_follows_it() -> None:
    prefix = encoder().encode_prefix("q" * 50)
    assert prefix.query_truncated
    assert TOKENIZER.decode(prefix.ids) == "<s>Q:" + " " + "q" * 10 + "\n"  # 12 with the blank and the newline
    assert not encoder().encode_prefix("q" * 10).query_truncated


def test_a_huge_document_is_read_only_as_far_as_needed() -> None:
    seen: list[int] = []

    class Recording(CharacterTokenizer):
        def encode_user_texts(self, texts):  # type: ignore[no-untyped-def]
            seen.extend(len(text) for text in texts)
            return super().encode_user_texts(texts)

    recording = PromptEncoder(TEMPLATE, Recording(), LIMITS)
    prefix = recording.encode_prefix("x")
    (segment,) = recording.encode_documents(prefix, [" " * 10_000_000])
    assert max(seen) <= CHARACTERS_PER_TOKEN * LIMITS.max_tokens + 1
    assert segment.truncated


def test_max_document_tokens_cuts_further() -> None:
    prefix = encoder().encode_prefix("x")
    (segment,) = encoder().encode_documents(prefix, ["abcdef"], max_document_tokens=3)
    assert TOKENIZER.decode(segment.ids) == "<doc>abc<ans>"
    assert segment.truncated


@pytest.mark.parametrize(
    ("template", "instruction", "reason"),
    [
        (TEMPLATE, "i" * 11, "longer than 10 tokens"),
        (TEMPLATE.model_copy(update={"instruction": None}), "shop", "takes no instruction"),
    ],
)
def test_an_instruction_that_cannot_be_rendered_names_its_field(
    template: PromptTemplate, instruction: str, reason: str
) -> None:
    with pytest.raises(PromptError, match=reason) as caught:
        encoder(template).encode_prefix("x", instruction)
    assert caught.value.field == "instruction"


@pytest.mark.parametrize(
    "change",
    [{"query": "no placeholder"}, {"document": "{document}{document}"}, {"query": "{document}"}, {"suffix": ""}],
)
def test_a_broken_template_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        PromptTemplate.model_validate({**TEMPLATE.model_dump(), **change})


def test_limits_that_leave_no_room_for_a_document_are_refused() -> None:
    with pytest.raises(PromptError, match=r"leave -?[0-9]+ tokens for a document"):
        encoder(limits=PromptLimits(max_tokens=20, max_query_tokens=12, max_instruction_tokens=10))


@given(query=st.text(max_size=80), documents=st.lists(st.text(max_size=120), min_size=1, max_size=5))
def test_any_text_renders_within_the_limits(query: str, documents: list[str]) -> None:
    prefix = encoder().encode_prefix(query)
    segments = encoder().encode_documents(prefix, documents)
    assert len(segments) == len(documents)
    for segment in segments:
        assert len(prefix.ids) + len(segment.ids) <= LIMITS.max_tokens
        assert segment.ids[0] == 2
        assert segment.ids[-1] == 3
        assert not {1, 2, 3}.intersection(segment.ids[1:-1])


@given(documents=st.lists(st.text(max_size=60), min_size=2, max_size=6))
def test_a_document_renders_the_same_in_any_company(documents: list[str]) -> None:
    prefix = encoder().encode_prefix("q")
    together = encoder().encode_documents(prefix, documents)
    assert together == [encoder().encode_documents(prefix, [document])[0] for document in documents]
