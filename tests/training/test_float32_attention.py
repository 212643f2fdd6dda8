from pathlib import Path

import pytest
import torch

from model_export.tiny import make_tokenizer, write_checkpoint
from modeling.float32_attention import NAME, use_float32_attention
from modeling.forward import next_token_logits
from modeling.loading import load_model
from relevance.spec import ScoringSpec
from relevance.tokenization import JsonTokenizer
from training.scorer import CheckpointScorer

LABELS = ScoringSpec.preset("minilm-late").scale.resolve_label_token_ids(JsonTokenizer(make_tokenizer().to_str()))


def test_it_changes_nothing_but_the_precision(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny")
    model = load_model(str(tmp_path / "tiny")).eval()
    ids = torch.tensor([[2, 9, 3, 11, 12, 4], [2, 9, 11, 12, 4, 0]])
    segments = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, -1]])
    with torch.inference_mode():
        before = next_token_logits(model, ids, segments, torch.tensor([5, 4]), "late")
        use_float32_attention(model)
        after = next_token_logits(model, ids, segments, torch.tensor([5, 4]), "late")
    torch.testing.assert_close(before, after, atol=1e-5, rtol=0)


def test_a_bfloat16_scorer_attends_in_float32(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny")
    model = load_model(str(tmp_path / "tiny"))
    CheckpointScorer(model, "late", LABELS, bfloat16=False)
    assert model.config._attn_implementation != NAME
    CheckpointScorer(model, "late", LABELS, bfloat16=True)
    assert model.config._attn_implementation == NAME


def test_grades_spelt_otherwise_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "tiny")
    with pytest.raises(ValueError, match="the model was made for grades spelt"):
        CheckpointScorer(load_model(str(tmp_path / "tiny")), "late", LABELS[::-1], bfloat16=False)
