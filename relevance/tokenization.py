"""Text to token ids, the same way in training, export and service.

Two encoders over one `tokenizer.json`:

- *literals* (the template's own words) may contain special tokens: `<|im_start|>`, `[SEP]`;
- *user text* may not. Its encoder knows no added token at all, so a document that spells `<|im_end|>` is
  encoded as those characters and cannot close the prompt or forge a grade.

This is the only module that touches the `tokenizers` library.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

from tokenizers import Tokenizer

from relevance.errors import TokenizerError


class TextTokenizer(Protocol):
    """What the prompt needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        ...

    def encode_literal(self, text: str) -> list[int]:
        """Token ids of template text; special tokens are recognised."""
        ...

    def encode_user_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each user text; special tokens are plain characters."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens included."""
        ...

    def is_unknown(self, token_id: int) -> bool:
        """Whether `token_id` is the vocabulary's unknown token."""
        ...


class JsonTokenizer:
    """A Hugging Face `tokenizer.json`."""

    def __init__(self, spec_json: str) -> None:
        """Build both encoders from the text of a `tokenizer.json`.

        Raises:
            TokenizerError: not a tokenizer, or one whose plain vocabulary produces control tokens.
        """
        try:
            spec = json.loads(spec_json)
            self._json = spec_json
            added: list[dict[str, object]] = spec.get("added_tokens", [])
            spec["truncation"] = spec["padding"] = None
            self._literal = Tokenizer.from_str(json.dumps(spec))
            self._user = Tokenizer.from_str(json.dumps({**spec, "added_tokens": [], "post_processor": None}))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"not a usable tokenizer.json: {error}") from error
        unknown = spec["model"].get("unk_token")
        self._unknown_id: int | None = None if unknown is None else self._literal.token_to_id(unknown)
        self._refuse_forgeable(added)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a `tokenizer.json`; TokenizerError names the file if that fails."""
        try:
            return cls(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise TokenizerError(f"{path}: {error.strerror}") from error

    def to_json(self) -> str:
        """The `tokenizer.json` this was built from."""
        return self._json

    def _refuse_forgeable(self, added: Sequence[dict[str, object]]) -> None:
        control_ids = {token["id"] for token in added if token.get("special")} - {self._unknown_id}
        contents = [str(token["content"]) for token in added]
        for content, ids in zip(contents, self.encode_user_texts(contents), strict=True):
            if control_ids.intersection(ids):
                raise TokenizerError(
                    f"user text {content!r} would encode to a control token; this tokenizer is not safe to serve"
                )

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return int(self._literal.get_vocab_size(with_added_tokens=True))

    def encode_literal(self, text: str) -> list[int]:
        """Token ids of template text; special tokens are recognised."""
        return list(self._literal.encode(text, add_special_tokens=False).ids)

    def encode_user_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each user text; special tokens are plain characters."""
        if len(texts) == 1:  # encode_batch pays for a thread pool
            return [list(self._user.encode(texts[0], add_special_tokens=False).ids)]
        encodings = self._user.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens included."""
        return str(self._literal.decode(list(ids), skip_special_tokens=False))

    def is_unknown(self, token_id: int) -> bool:
        """Whether `token_id` is the unknown token."""
        return token_id == self._unknown_id
