"""Attention in float32 inside a bfloat16 training step on a CPU.

PyTorch 2.13's fused attention has a slow bfloat16 backward pass there: 154 ms against 33 ms in float32 for 50 rows of
80 tokens (forward 10 and 13 ms), which made attention half of a training step.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "float32_sdpa"


def float32_attention(
    _module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What `transformers` asks of an attention function: [B, heads, L, D] in, [B, L, heads, D] out."""
    is_grouped = key.shape[1] != query.shape[1]
    with torch.autocast(query.device.type, enabled=False):
        attended = torch.nn.functional.scaled_dot_product_attention(
            query.float(),
            key.float(),
            value.float(),
            attn_mask=attention_mask,
            dropout_p=float(options.get("dropout", 0.0)),
            scale=options.get("scaling"),
            enable_gqa=is_grouped,
        )
    return attended.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, float32_attention)


def use_float32_attention(model: PreTrainedModel) -> None:
    """Let `model` attend in float32; its masks must be boolean or additive, as `modeling.forward` makes them."""
    model.set_attn_implementation(NAME)
