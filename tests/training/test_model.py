import math
from pathlib import Path

import pytest
import torch

from training.losses import first_token_cross_entropy
from training.model import attention_mask, load_model, next_token_logits, position_ids, resolve_model_path
from training.sft import learning_rate_factor


def test_loss_by_hand() -> None:
    # Vocabulary of 3, labels are tokens 2 and 0. Row 1: softmax (1/2, 1/4, 1/4), hard label on token 2.
    # Row 2: uniform, soft label half and half.
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    loss = first_token_cross_entropy(logits, target, torch.tensor([2, 0]))
    assert float(loss) == pytest.approx((math.log(4) + math.log(3)) / 2, abs=1e-6)


def test_masks_by_hand() -> None:
    segments = torch.tensor([[0, 0, 1, 2, -1]])
    causal = attention_mask(segments, "causal")[0, 0].int().tolist()
    assert causal == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    segment = attention_mask(segments, "segment")[0, 0].int().tolist()
    assert segment == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    isolated = attention_mask(segments, "isolated")[0, 0].int().tolist()
    assert isolated == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert position_ids(segments, "segment").tolist() == [[0, 1, 2, 3, 4]]
    assert position_ids(segments, "isolated")[0, :4].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("attention", ["causal", "segment", "isolated"])
def test_padding_and_later_segments_do_not_change_a_prompt(tiny_checkpoint: Path, attention: str) -> None:
    model = load_model(str(tiny_checkpoint)).eval()
    ids = torch.tensor([[2, 9, 3, 11, 12, 4]])
    segments, last = torch.tensor([[0, 0, 0, 1, 1, 2]]), torch.tensor([5])
    padded_ids = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], 1)
    padded_segments = torch.cat([segments, torch.full((1, 4), -1)], 1)
    with torch.inference_mode():
        alone = next_token_logits(model, ids, segments, last, attention)  # type: ignore[arg-type]
        padded = next_token_logits(model, padded_ids, padded_segments, last, attention)  # type: ignore[arg-type]
        other = next_token_logits(model, ids.flip(1), segments, last, attention)  # type: ignore[arg-type]
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=0)
    assert not torch.allclose(alone, other, atol=1e-3)


def test_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(step, 10, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] == pytest.approx(0.02, abs=0.001)


def test_package_paths_resolve() -> None:
    assert Path(resolve_model_path("package:relevance/specs")).is_dir()
    assert resolve_model_path("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
