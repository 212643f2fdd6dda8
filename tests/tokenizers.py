"""Tokenizers of three kinds: one small enough to reason about (a token per character), WordPiece and byte-level BPE."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from relevance.tokenization import JsonTokenizer

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


@cache
def wordpiece_tokenizer() -> JsonTokenizer:
    """The embedded default's: 30,522 lower-casing word pieces."""
    return JsonTokenizer.from_file(Path(__file__).parents[1] / "artifacts" / "default" / "tokenizer.json")


# How Qwen splits text before its byte pair encoding: contractions, words with the blank before them, single digits,
# runs of other characters with the blank before them, white space.
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BPE_TEXT = """
wants exactness coverage topicality context evidence missing verdict none irrelevant related highly relevant perfect
USB-C to USB-C cable, braided. 60 W usb hub charging 24 in. leather barstool red what is the average salary
"""


@cache
def byte_level_tokenizer() -> JsonTokenizer:
    """A byte-level BPE of Qwen's make, a few hundred merges."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_QWEN_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=600,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([_BPE_TEXT], trainer)
    return JsonTokenizer(tokenizer.to_str())
