"""Python on the hot path, counted: nothing for each token, a fixed small number of calls for each document.

The limits are about twice what was counted when they were set (in brackets), so a helper more does no harm, and a call
per token, a coroutine or a model object per document does.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.answer_row import build_answer_row, plan_past
from engine.base import AnswerKV, AnswerWork, PrefixKV, PromptKV
from engine.packing import Segment, build_row
from relevance.artifact import load_artifact
from relevance.attention import Attention
from relevance.pair import Pair
from service.cost import CostModel
from service.settings import Settings
from service.tokenise import DEFAULT_CUT, tokenise
from tests.api.conftest import serve_app
from tests.performance.conftest import Calls, counted, per_further, per_further_awaited

TINY = Path(__file__).parents[1] / "data" / "tiny_artifact"


def row_of(num_segments: int, num_tokens: int, attention: Attention) -> None:
    build_row([Segment(range(num_tokens), 1, 4, 1)] * num_segments, 5, attention, -60.0)


@pytest.mark.parametrize("attention", ["causal", "segment", "late"])
def test_a_row_costs_nothing_for_each_token(attention: Attention) -> None:
    assert per_further(lambda size: row_of(3, size, attention), 10, 200) == Calls(0, 0)


@pytest.mark.parametrize(("attention", "limit"), [("causal", 8), ("segment", 8), ("late", 8)])
def test_a_row_costs_a_few_calls_for_each_document(attention: Attention, limit: int) -> None:
    further = per_further(lambda size: row_of(size, 12, attention), 10, 110)
    assert further.python + further.c <= limit  # [2, 2, 3]


def test_an_answers_row_costs_nothing_for_each_token() -> None:
    array = np.zeros((1, 1, 5, 2), np.float32)
    prompt = PromptKV(PrefixKV(4, (array,), (array,)), 5, [array], [array])

    def row(num_tokens: int) -> None:
        work = [AnswerWork(AnswerKV(prompt), range(num_tokens))]
        build_answer_row(work, plan_past(work), "causal", -60.0)

    assert per_further(row, 10, 200) == Calls(0, 0)


def test_tokenising_costs_a_few_calls_for_each_document_and_none_for_each_character() -> None:
    artifact = load_artifact(TINY)
    encoder = artifact.manifest.spec.encoder(artifact.tokenizer)

    def encode(num_documents: int, words: int = 5) -> None:
        tokenise(
            encoder, [Pair("usb cable", f"{number} cable" * words) for number in range(num_documents)], DEFAULT_CUT
        )

    further = per_further(encode, 10, 110)
    assert further.python + further.c <= 20  # [9]
    assert per_further(lambda words: encode(4, words), 2, 10) == Calls(0, 0)


def test_the_cost_model_is_a_few_calls_for_each_pack() -> None:
    cost = CostModel()
    with counted() as calls:
        cost.observe(128, 0.01)
    assert calls.python + calls.c <= 20  # [14]


@pytest.fixture
def body() -> Any:
    def build(num_documents: int, words: int = 3) -> dict[str, Any]:
        number = next(numbers)
        documents = [f"cable {number} {place} " + "usb " * words for place in range(num_documents)]
        return {"query": f"usb cable {number}", "documents": documents}

    numbers = iter(range(10**6))
    return build


async def test_a_request_costs_the_event_loop_a_few_calls_for_each_document(body: Any) -> None:
    settings = Settings(max_pack_tokens=4096, score_cache_mib=0, max_loop_stall_seconds=0)
    async with serve_app(settings) as service:

        async def ask(num_documents: int, words: int = 3) -> None:
            answer = await service.client.post("/score", content=bodies[num_documents, words].pop())
            assert answer.status_code == 200

        # Written before, so that writing JSON is not counted; long enough not to be tokenised on the loop.
        sizes = [(100, 3), (300, 3), (100, 30)]
        bodies = {size: [json.dumps(body(*size)) for _ in range(4)] for size in sizes}
        further = await per_further_awaited(ask, 100, 300)
        assert 5 <= further.python <= 20  # [14]
        assert further.c <= 30  # [21]
        longer = await per_further_awaited(lambda words: ask(100, words), 3, 30)
        assert longer.python / 100 <= 0.5  # a further word of each document


async def test_the_engine_is_called_for_packs_not_for_documents(body: Any) -> None:
    async with serve_app(Settings(max_pack_tokens=256, score_cache_mib=0)) as service:
        assert (await service.score(body(120))).status_code == 200
        packs = service.engine.packs
        num_tokens = sum(len(ids) for pack in packs for ids in pack)
        assert sum(map(len, packs)) == 120
        assert len(packs) <= 2 + 1.3 * num_tokens / 256
        assert len(service.engine.prefills) == 1
