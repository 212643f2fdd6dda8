from pathlib import Path

import torch

from model_export.tiny import write_checkpoint
from modeling.float32_attention import NAME, use_float32_attention
from modeling.forward import next_token_logits
from modeling.loading import load_model
from training.scorer import CheckpointScorer


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
    CheckpointScorer(model, "late", (5, 6, 7, 8), bfloat16=False)
    assert model.config._attn_implementation != NAME
    CheckpointScorer(model, "late", (5, 6, 7, 8), bfloat16=True)
    assert model.config._attn_implementation == NAME
