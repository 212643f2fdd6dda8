"""A tokenizer small enough to reason about: one token per character, a few special tokens."""

from collections.abc import Sequence

SPECIAL = ("[UNK]", "<s>", "<doc>", "<ans>", "ab")


class CharacterTokenizer:
    """Ids 0-4 are special tokens (literals only), every other character is 5 + its code point."""

    vocab_size = 5 + 0x110000

    def encode_literal(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            special = next((s for s in SPECIAL if text.startswith(s)), None)
            ids.append(SPECIAL.index(special) if special else 5 + ord(text[0]))
            text = text[len(special or text[0]) :]
        return ids

    def encode_user_texts(self, texts: Sequence[str]) -> list[list[int]]:
        return [[5 + ord(c) for c in text] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(SPECIAL[i] if i < len(SPECIAL) else chr(i - 5) for i in ids)

    def is_unknown(self, token_id: int) -> bool:
        return token_id == 0
