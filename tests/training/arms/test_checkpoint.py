"""The arms' base: MiniLM's pieces and embeddings, cut to what the texts need."""

import json
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from modeling.loading import load_tokenizer, resolve_model_path
from relevance.tokenization import JsonTokenizer
from training.arms.checkpoint import BASE, cut_tokenizer, project

TEXTS = ["a braided kettle, 12 inch", "without lid"]


def test_a_cut_tokenizer_splits_as_the_whole_one_does() -> None:
    whole = load_tokenizer(resolve_model_path(BASE))
    cut_json, old_ids = cut_tokenizer(whole.to_json(), TEXTS)
    cut = JsonTokenizer(cut_json)
    assert cut.vocab_size == len(old_ids) < 300
    for text in TEXTS:
        ids = cut.encode_user_texts([text])[0]
        assert [old_ids[i] for i in ids] == whole.encode_user_texts([text])[0]
    assert [old_ids[i] for i in cut.encode_literal("[CLS][SEP]")] == whole.encode_literal("[CLS][SEP]")
    assert not any(cut.is_unknown(i) for i in cut.encode_user_texts(["qzx"])[0])  # other words are spelt


def test_projection_keeps_what_differs_most() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6)).astype(np.float32) * np.array([9, 7, 5, 0.1, 0.1, 0.1], dtype=np.float32)
    narrow = project(rows, 3, std=0.05)
    assert narrow.shape == (200, 3)
    assert np.isclose(narrow.std(), 0.05, atol=1e-4)
    centred = rows - rows.mean(0)
    inner, kept = centred @ centred.T, narrow @ narrow.T
    assert np.corrcoef(inner.ravel(), kept.ravel())[0, 1] > 0.999


def test_the_checkpoint_is_one_anybody_can_load(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("[PAD]", "[SEP]")
    assert json.loads((base / "config.json").read_text())["model_type"] == "qwen3"
    assert len(tokenizer) == json.loads((base / "config.json").read_text())["vocab_size"]
