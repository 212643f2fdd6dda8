"""Pairs to prompts: token ids of distinct pairs, and how many tokens pairs will be before anybody has looked.

Each distinct query is encoded once, its documents in one call. `TokenEstimate` lets a request be refused before it has
cost anything: tokens = bytes * ratio, the ratio learned from what was tokenised before, at most what one
document may have.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relevance.pair import Pair
from relevance.prompt import End, PromptEncoder
from service.work import Prompt

# How fast the ratio follows the traffic: the last 200,000 bytes count for most of it.
MEMORY_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes of a document that is too long."""

    max_document_tokens: int | None = None
    """Cut shorter than the model needs; None: to what the model takes."""
    keep: End = "start"
    """Which end of the document stays."""
    is_allowed: bool = True
    """False: a request with such a document is refused instead."""


DEFAULT_CUT = Cut()


@dataclass(frozen=True, slots=True)
class TokenisedPairs:
    """The prompts of N distinct pairs, in their order."""

    prompts: Sequence[Prompt]
    truncated: Sequence[bool]
    """Per prompt, whether its document was cut."""
    query_truncated: Sequence[bool]
    """Per prompt, whether its query was cut."""


def tokenise(encoder: PromptEncoder, pairs: Sequence[Pair], cut: Cut) -> TokenisedPairs:
    """Token ids of distinct pairs.

    Raises:
        PromptError: an instruction that does not fit the template.
    """
    behind: dict[tuple[str, str | None], list[int]] = {}
    for index, pair in enumerate(pairs):
        behind.setdefault((pair.query, pair.instruction), []).append(index)
    prompts: dict[int, Prompt] = {}
    truncated = [False] * len(pairs)
    query_truncated = [False] * len(pairs)
    for (query, instruction), group in behind.items():
        prefix = encoder.encode_prefix(query, instruction)
        texts = [pairs[index].document for index in group]
        documents = encoder.encode_documents(prefix, texts, cut.max_document_tokens, cut.keep)
        for index, document in zip(group, documents, strict=True):
            prompts[index] = Prompt(prefix.ids, document.ids)
            truncated[index] = document.truncated
            query_truncated[index] = prefix.query_truncated
    return TokenisedPairs([prompts[index] for index in range(len(pairs))], truncated, query_truncated)


class TokenEstimate:
    """How many tokens texts will be."""

    def __init__(self, encoder: PromptEncoder, max_tokens: int, samples: Iterable[Pair]) -> None:
        """Learn from `samples`, at least one; `max_tokens` is the most that one prompt has."""
        self._max_tokens = max_tokens
        self._num_bytes = 0.0
        self._num_tokens = 0.0
        pairs = list(samples)
        prefix = encoder.encode_prefix(pairs[0].query, pairs[0].instruction)
        (empty,) = encoder.encode_documents(prefix, [""])
        self._num_literals = len(empty.ids)
        self.learn(pairs, tokenise(encoder, pairs, DEFAULT_CUT))

    @property
    def tokens_per_byte(self) -> float:
        """The ratio, of text alone."""
        return self._num_tokens / self._num_bytes if self._num_bytes else 1.0

    def tokens(self, pairs: Sequence[Pair], cut: Cut) -> int:
        """Tokens of the document segments of `pairs`, as far as one can tell."""
        ratio = self.tokens_per_byte
        most = min(self._max_tokens, cut.max_document_tokens or self._max_tokens)
        text = sum(min(len(pair.document.encode()) * ratio, most) for pair in pairs)
        return round(text) + self._num_literals * len(pairs)

    def learn(self, pairs: Sequence[Pair], tokenised: TokenisedPairs) -> None:
        """See how many tokens `pairs` have become; those that were cut tell nothing."""
        num_bytes = num_tokens = 0
        for pair, prompt, truncated in zip(pairs, tokenised.prompts, tokenised.truncated, strict=True):
            if not truncated:
                num_bytes += len(pair.document.encode())
                num_tokens += len(prompt.document_ids) - self._num_literals
        kept = MEMORY_BYTES / (MEMORY_BYTES + num_bytes)
        self._num_bytes = self._num_bytes * kept + num_bytes
        self._num_tokens = self._num_tokens * kept + num_tokens
