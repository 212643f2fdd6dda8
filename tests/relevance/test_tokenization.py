import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from relevance.errors import TokenizerError
from relevance.tokenization import JsonTokenizer


def word_tokenizer(pre_tokenizer: pre_tokenizers.PreTokenizer) -> str:
    vocabulary = {"[UNK]": 0, "[SEP]": 1, "a": 2, "b": 3, "[": 4, "]": 5, "SEP": 6}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens([AddedToken("[UNK]", special=True), AddedToken("[SEP]", special=True)])
    return tokenizer.to_str()


SPLITS_PUNCTUATION = word_tokenizer(pre_tokenizers.BertPreTokenizer())


def test_literals_know_special_tokens_and_user_text_does_not() -> None:
    tokenizer = JsonTokenizer(SPLITS_PUNCTUATION)
    assert tokenizer.encode_literal("a [SEP]") == [2, 1]
    assert tokenizer.encode_user_texts(["a [SEP]", "b"]) == [[2, 4, 6, 5], [3]]
    assert tokenizer.encode_user_texts(["a [SEP]"]) == [[2, 4, 6, 5]]


def test_a_tokenizer_whose_user_text_could_forge_a_control_token_is_refused() -> None:
    with pytest.raises(TokenizerError, match=r"'\[SEP\]' would encode to a control token"):
        JsonTokenizer(word_tokenizer(pre_tokenizers.WhitespaceSplit()))


def test_truncation_and_padding_of_the_file_are_ignored() -> None:
    spec = json.loads(SPLITS_PUNCTUATION)
    spec["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    assert JsonTokenizer(json.dumps(spec)).encode_user_texts(["a b a"]) == [[2, 3, 2]]


def test_unknown_and_decode() -> None:
    tokenizer = JsonTokenizer(SPLITS_PUNCTUATION)
    assert tokenizer.is_unknown(tokenizer.encode_literal("zebra")[0])
    assert "[SEP]" in tokenizer.decode([2, 1])
    assert tokenizer.vocab_size == 7


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_a_bad_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(TokenizerError, match=r"not a usable tokenizer\.json"):
        JsonTokenizer.from_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"nowhere\.json"):
        JsonTokenizer.from_file(tmp_path / "nowhere.json")
