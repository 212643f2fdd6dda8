"""The prompt as data, rendered identically in training, export and service.

    prefix  [instruction]  query            -> the prefix segment, shared by all documents of a query
    document  suffix                        -> one document segment per pair, read at its last token

Truncation cuts the document only, or an over-long query (which is reported); the template's own words, above
all the suffix the grade is read at, always stay whole.

White space of the template that touches a placeholder is encoded together with the user's text, since byte
pair encodings merge a blank into the word after it: `"<Query>: {query}"` gives the tokens that the joined
text would give.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relevance.errors import PromptError
from relevance.tokenization import TextTokenizer

# Reading stops after this many characters per token of budget: a text that needs more per token is white space
# or one endless word, and a ten-megabyte document must not cost ten megabytes of tokenising.
CHARACTERS_PER_TOKEN = 16

End = Literal["start", "end"]

_PLACEHOLDER = re.compile(r"(\s*)\{(instruction|query|document)\}(\s*)")


class PromptTemplate(BaseModel):
    """Four literals with one placeholder each where user text goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    prefix: str
    instruction: str | None = None
    """Contains `{instruction}`; rendered only when there is one. None: this template takes no instruction."""
    default_instruction: str | None = None
    """Used when the caller gives none."""
    query: str
    document: str
    suffix: str = Field(min_length=1)
    """Ends the prompt: the grade is the token that follows."""

    @model_validator(mode="after")
    def _check_placeholders(self) -> Self:
        for field in ("instruction", "query", "document"):
            text = getattr(self, field)
            if text is not None and [m[1] for m in _PLACEHOLDER.findall(text)] != [field]:
                raise ValueError(f"template.{field} must contain {{{field}}} exactly once and no other placeholder")
        if self.default_instruction is not None and self.instruction is None:
            raise ValueError("template.default_instruction needs template.instruction")
        return self


class PromptLimits(BaseModel):
    """Bounds in tokens of this artifact's tokenizer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: int = Field(ge=16)
    """A whole prompt: prefix segment and document segment."""
    max_query_tokens: int = Field(ge=4)
    max_instruction_tokens: int = Field(default=128, ge=1)


@dataclass(frozen=True, slots=True)
class EncodedPrefix:
    """The prefix segment of a query."""

    ids: tuple[int, ...]
    query_truncated: bool


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """The document segment of a pair: document and suffix."""

    ids: tuple[int, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Slot:
    """A literal with a hole for user text, split and encoded once."""

    before_ids: tuple[int, ...]
    lead: str
    lead_ids: tuple[int, ...]
    trail: str
    trail_ids: tuple[int, ...]
    after_ids: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, tokenizer: TextTokenizer) -> Self:
        match = _PLACEHOLDER.search(text)
        if match is None:
            raise PromptError("template", f"no placeholder in {text!r}")
        lead, _, trail = match.groups()
        return cls(
            before_ids=tuple(tokenizer.encode_literal(text[: match.start()])),
            lead=lead,
            lead_ids=tuple(tokenizer.encode_user_texts([lead])[0]) if lead else (),
            trail=trail,
            trail_ids=tuple(tokenizer.encode_user_texts([trail])[0]) if trail else (),
            after_ids=tuple(tokenizer.encode_literal(text[match.end() :])),
        )

    @property
    def num_literal_tokens(self) -> int:
        return len(self.before_ids) + len(self.after_ids)

    def fill(
        self, texts: Sequence[str], max_tokens: int, tokenizer: TextTokenizer, keep: End = "start"
    ) -> list[tuple[tuple[int, ...], bool]]:
        """Ids of the filled literal and whether the text was cut, for at most `max_tokens` of text with its blanks."""
        room = max_tokens * CHARACTERS_PER_TOKEN
        read = [text[:room] if keep == "start" else text[-room:] for text in texts]
        encoded = tokenizer.encode_user_texts([f"{self.lead}{text.strip()}{self.trail}" for text in read])
        filled: list[tuple[tuple[int, ...], bool]] = []
        for text, ids in zip(texts, encoded, strict=True):
            cut = len(ids) > max_tokens
            body = self._cut(ids, max_tokens, keep) if cut else tuple(ids)
            filled.append(((*self.before_ids, *body, *self.after_ids), cut or len(text) > room))
        return filled

    def _cut(self, ids: Sequence[int], max_tokens: int, keep: End) -> tuple[int, ...]:
        """The start or the end of `ids`, with the blanks of the template that stand at the other end."""
        if keep == "start":
            return (*ids[: max(0, max_tokens - len(self.trail_ids))], *self.trail_ids)
        return (*self.lead_ids, *ids[len(ids) - max(0, max_tokens - len(self.lead_ids)) :])


class PromptEncoder:
    """Renders pairs to token ids for one template, tokenizer and set of limits."""

    def __init__(self, template: PromptTemplate, tokenizer: TextTokenizer, limits: PromptLimits) -> None:
        self._template = template
        self._tokenizer = tokenizer
        self._limits = limits
        self._prefix_ids = tuple(tokenizer.encode_literal(template.prefix))
        self._suffix_ids = tuple(tokenizer.encode_literal(template.suffix))
        self._query = _Slot.parse(template.query, tokenizer)
        self._document = _Slot.parse(template.document, tokenizer)
        self._instruction = None if template.instruction is None else _Slot.parse(template.instruction, tokenizer)
        self._check_room()

    def _check_room(self) -> None:
        instruction = self._instruction
        longest_prefix = len(self._prefix_ids) + self._query.num_literal_tokens + self._limits.max_query_tokens
        if instruction is not None:
            longest_prefix += instruction.num_literal_tokens + self._limits.max_instruction_tokens
        room = self._limits.max_tokens - longest_prefix - self._num_document_literals
        if room < 1:
            raise PromptError(
                "limits.max_tokens",
                f"limits leave {room} tokens for a document behind the longest prefix ({longest_prefix} tokens)",
            )

    @property
    def _num_document_literals(self) -> int:
        return self._document.num_literal_tokens + len(self._suffix_ids)

    @property
    def num_suffix_tokens(self) -> int:
        """How many tokens at the end of every document segment are the suffix."""
        return len(self._suffix_ids)

    def document_ids(self, segment: Sequence[int]) -> Sequence[int]:
        """The document's own tokens in a document segment: without the template's words around it and the suffix."""
        slot = self._document
        return segment[len(slot.before_ids) : len(segment) - len(slot.after_ids) - len(self._suffix_ids)]

    @property
    def num_leading_tokens(self) -> int:
        """The template's tokens in front of the document in its segment."""
        return len(self._document.before_ids)

    @property
    def max_tokens(self) -> int:
        """Tokens of a whole prompt at most."""
        return self._limits.max_tokens

    def encode_prefix(self, query: str, instruction: str | None = None) -> EncodedPrefix:
        """The prefix segment of `query`.

        Raises:
            PromptError: an instruction this template has no place for, or one beyond `max_instruction_tokens`.
        """
        ids, truncated = self._query.fill([query], self._limits.max_query_tokens, self._tokenizer)[0]
        return EncodedPrefix((*self._prefix_ids, *self._encode_instruction(instruction), *ids), truncated)

    def _encode_instruction(self, instruction: str | None) -> tuple[int, ...]:
        if instruction is None:
            instruction = self._template.default_instruction
        elif self._instruction is None:
            raise PromptError("instruction", f"template {self._template.name!r} takes no instruction")
        if instruction is None or self._instruction is None:
            return ()
        ids, truncated = self._instruction.fill([instruction], self._limits.max_instruction_tokens, self._tokenizer)[0]
        if truncated:
            raise PromptError("instruction", f"longer than {self._limits.max_instruction_tokens} tokens")
        return ids

    def encode_documents(
        self,
        prefix: EncodedPrefix,
        documents: Sequence[str],
        max_document_tokens: int | None = None,
        keep: End = "start",
    ) -> list[EncodedDocument]:
        """The document segments of `documents` behind `prefix`.

        Each is cut to what `max_tokens` leaves it, or to `max_document_tokens` where that is less; `keep` says which
        end of an over-long one stays.
        """
        if not documents:
            return []
        room = self._limits.max_tokens - len(prefix.ids) - self._num_document_literals
        if max_document_tokens is not None:
            room = min(room, max_document_tokens)
        filled = self._document.fill(documents, room, self._tokenizer, keep)
        return [EncodedDocument((*ids, *self._suffix_ids), truncated) for ids, truncated in filled]
