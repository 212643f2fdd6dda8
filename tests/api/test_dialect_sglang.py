"""POST /score and /v1/score with label_token_ids."""

import re
from typing import Any

import numpy as np
import pytest

from relevance.pair import Pair
from tests.api.conftest import Service
from tests.fakes import expected_distribution, fake_artifact

LABELS = list(fake_artifact().manifest.label_token_ids)
BODY = {"query": "q", "items": ["a", "b"], "label_token_ids": LABELS}
EXPECTED = np.array([expected_distribution(Pair("q", text)) for text in ("a", "b")])


async def scores(service: Service, **options: Any) -> list[list[float]]:
    response = await service.client.post("/v1/score", json={**BODY, **options})
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"scores", "model", "usage", "object"}
    assert response.json()["object"] == "scoring"
    found: list[list[float]] = response.json()["scores"]
    return found


async def test_a_probability_per_item_and_label_in_the_order_asked_for(service: Service) -> None:
    assert await scores(service) == EXPECTED.tolist()
    assert await scores(service, label_token_ids=[LABELS[3], LABELS[0]]) == EXPECTED[:, [3, 0]].tolist()
    assert await scores(service, items="a") == EXPECTED[:1].tolist()
    assert await scores(service, item_first=False, model="m") == EXPECTED.tolist()


async def test_apply_softmax_normalises_over_the_labels_asked_for(service: Service) -> None:
    two = EXPECTED[:, [0, 3]]
    found = await scores(service, label_token_ids=[LABELS[0], LABELS[3]], apply_softmax=True)
    np.testing.assert_allclose(found, two / two.sum(axis=1, keepdims=True), rtol=1e-12)  # one division in float64


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"label_token_ids": [LABELS[0], 9_999]}, "label_token_ids", f"9999 is no grade.*{LABELS[0]} .irrelevant"),
        ({"label_token_ids": []}, "label_token_ids", ""),
        ({"query": [1, 2, 3]}, "query", ""),
        ({"item_first": True}, "item_first", "template"),
        ({"items": []}, "items", ""),
    ],
)
async def test_what_is_no_request_is_400(service: Service, options: dict[str, Any], param: str, words: str) -> None:
    response = await service.client.post("/score", json={**BODY, **options})
    assert response.status_code == 400
    answer = response.json()
    assert (answer["object"], answer["code"], answer["param"]) == ("error", 400, param)
    assert re.search(words, answer["message"])
