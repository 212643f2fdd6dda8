"""Explanations over a fake engine: in order, always ended, never holding anything afterwards."""

import asyncio
from dataclasses import replace

import pytest

from relevance.explanation import STEPS, Explanation, check
from relevance.pair import Pair
from service.errors import (
    CannotExplainError,
    DeadlineExceededError,
    EngineDeadError,
    EngineFailedError,
    ExplanationCutError,
    InvalidFieldsError,
    NotReadyError,
    TooManyExplanationsError,
)
from service.explaining.events import ExplanationRequest, Grade, Sampling
from service.explaining.explainer import ANSWER_POSITIONS
from service.explaining.keeping import MAX_KEPT_PAIRS
from service.tokenise import Cut
from service.work import Terms
from tests.fakes import FakeClock, FakeEngine, ThreadDeath, fake_artifact, fake_spec
from tests.service.explaining.conftest import assert_in_order, running

PAIR = Pair("usb c cable", "USB-C cable, 2 m")
REQUEST = ExplanationRequest(PAIR, 2)


def pair(number: int) -> Pair:
    return Pair(f"query {number}", f"document {number} of all")


@pytest.mark.parametrize("grade", range(4))
async def test_an_explanation_holds_and_says_the_grade_it_was_given(grade: int) -> None:
    async with running() as model:
        found = await model.explain(replace(REQUEST, grade=grade))
        assert_in_order(found)
        assert found.events[0] == Grade(grade, model.artifact.manifest.spec.scale.names[grade])
        assert tuple(found.values) == STEPS
        assert check(Explanation.from_json(found.values), PAIR.query, PAIR.document, grade) == []
        assert found.values["verdict"] == grade
        for step, value in found.values.items():
            if isinstance(value, str | int) and step != "verdict":
                assert "".join(piece.text for piece in found.pieces if piece.step == step) == str(value)
        model.assert_nothing_held()


async def test_the_first_token_is_the_label_of_the_grade_and_forced_tokens_go_with_it() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        usage = (await model.explain(REQUEST)).done.usage
        labels = model.artifact.manifest.label_token_ids
        assert engine.answers[0][0][0] == labels[2]
        fed = [token for step in engine.answers for ids in step for token in ids]
        assert usage.decode_steps == len(engine.answers) < usage.completion_tokens / 5
        assert usage.forced_tokens == usage.completion_tokens - usage.decode_steps
        assert len(fed) < usage.completion_tokens  # the forced end goes through no model


async def test_it_resumes_from_a_scored_pair_only_if_that_was_asked_for() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        for keeps, resumed in ((False, False), (True, True)):
            one = pair(keeps)
            grade = await model.grade(one, keeps_kv=keeps)
            num_packs = len(engine.packs)
            done = (await model.explain(ExplanationRequest(one, grade))).done
            assert done.resumed is resumed
            assert len(engine.packs) - num_packs == (not resumed)
            assert done.usage.cached_tokens == (done.usage.prompt_tokens if resumed else len(one.query) + 1)
        figures = model.live.explainer.figures
        assert (figures.resumed, figures.prefilled, figures.kept_pairs) == (1, 1, 1)


async def test_a_prefix_that_was_computed_for_an_explanation_is_held() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine, explain_kv_mib=0) as model:
        pairs = [Pair("one query", document) for document in ("a", "b")]
        first, second = [await model.explain(ExplanationRequest(one, 1)) for one in pairs]
        assert first.done.usage.cached_tokens == 0
        assert second.done.usage.cached_tokens == len("one query") + 1
        assert len(engine.prefills) == 1


async def test_resumed_or_computed_once_more_it_says_the_same() -> None:
    async with running() as model:
        await model.grade(PAIR, keeps_kv=True)
        resumed = await model.explain(REQUEST)
    async with running(explain_kv_mib=0) as model:
        computed = await model.explain(REQUEST)
    assert (resumed.done.resumed, computed.done.resumed) == (True, False)
    assert resumed.events[:-1] == computed.events[:-1]


async def test_alone_as_beside_many_others() -> None:
    requests = [ExplanationRequest(pair(number), number % 4) for number in range(12)]
    async with running() as model:
        alone = [await model.explain(one) for one in requests]
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        together = await asyncio.gather(*(model.explain(one) for one in requests))
    assert max(map(len, engine.answers)) > 1
    assert [one.values for one in together] == [one.values for one in alone]
    assert all(not one.error for one in together)


async def test_of_a_request_the_best_pairs_are_kept() -> None:
    async with running() as model:
        pairs = [Pair("query", f"document {number}") for number in range(3 * MAX_KEPT_PAIRS)]
        scored = await model.live.scorer.score(pairs, terms=Terms(keeps_kv=True))
        ranked = sorted(range(len(pairs)), key=lambda index: -scored.pairs.scores[index])
        best, worst = pairs[ranked[0]], pairs[ranked[-1]]
        assert (await model.explain(ExplanationRequest(best, 1))).done.resumed
        assert not (await model.explain(ExplanationRequest(worst, 1))).done.resumed
        model.assert_nothing_held()


async def test_a_seed_is_repeated_and_another_differs() -> None:
    async with running() as model:
        warm = [replace(REQUEST, sampling=Sampling(temperature=5.0, seed=seed)) for seed in (1, 1, 2, 3)]
        found = [(await model.explain(one)).values for one in warm]
        assert found[0] == found[1]
        assert found[2:] != [found[0], found[0]]


async def test_too_few_tokens_end_in_an_error_behind_whole_steps() -> None:
    async with running() as model:
        whole = await model.explain(REQUEST)
        length = whole.done.usage.completion_tokens
        assert (await model.explain(replace(REQUEST, sampling=Sampling(max_tokens=length)))).error is None
        for most in (1, 20, 60, length - 1):
            cut = await model.explain(replace(REQUEST, sampling=Sampling(max_tokens=most)))
            assert isinstance(cut.error, ExplanationCutError)
            assert list(cut.values.items()) == list(whole.values.items())[: len(cut.values)]
            assert len(cut.values) < len(STEPS)
        assert model.live.explainer.figures.cut == 4
        model.assert_nothing_held()


async def test_a_long_pair_is_cut_for_its_answer_and_quotes_what_was_read() -> None:
    spec = fake_spec(None)
    spec = spec.model_copy(update={"limits": spec.limits.model_copy(update={"max_tokens": 500})})
    long = Pair("usb cable", "usb cable of words " * 40)
    engine = FakeEngine()
    async with running(fake_artifact(spec), lambda: engine) as model:
        usage = (await model.explain(ExplanationRequest(long, 1, sampling=Sampling(max_tokens=160)))).events
        assert isinstance(usage[0], Grade)
        (scored,) = (await model.live.scorer.score([long])).pairs.num_tokens
        assert scored > 512 - ANSWER_POSITIONS
        read = [token for pack in engine.packs[-2:-1] for ids in pack for token in ids]
        assert len(long.query) + 1 + len(read) == 512 - 1 - ANSWER_POSITIONS


async def test_no_positions_for_an_answer_is_said_at_once() -> None:
    artifact = fake_artifact()
    graph = artifact.manifest.graph.model_copy(update={"max_positions": len(PAIR.query) + 3})
    manifest = artifact.manifest.model_copy(update={"graph": graph})
    async with running(replace(artifact, manifest=manifest)) as model:
        found = await model.explain(REQUEST)
        assert isinstance(found.error, CannotExplainError)
        assert found.events == []


async def test_what_cannot_be_is_refused_before_the_first_event() -> None:
    async with running(fake_artifact(fake_spec(None))) as model:
        for request in (
            replace(REQUEST, grade=4),
            replace(REQUEST, grade=-1),
            replace(REQUEST, pair=Pair("q", "d", "an instruction")),
        ):
            found = await model.explain(request)
            assert isinstance(found.error, InvalidFieldsError)
            assert found.events == []


async def test_one_too_many_is_refused_and_a_place_is_given_back() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine, max_explanations=2) as model:
        with engine.blocked():
            tasks = [await model.begun(ExplanationRequest(pair(number), 1)) for number in range(2)]
            refused = await model.explain(REQUEST)
            assert isinstance(refused.error, TooManyExplanationsError)
            assert refused.error.retry_after_s
        for one in await asyncio.gather(*tasks):
            assert one.error is None
        assert (await model.explain(REQUEST)).error is None
        assert model.live.explainer.figures.refused == 1


async def test_cancelled_within_one_step() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        with engine.blocked():
            task = await model.begun(REQUEST)
            await asyncio.to_thread(engine.wait_for_call)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            model.assert_nothing_held()
        other = await model.explain(ExplanationRequest(pair(1), 1))
        assert len(engine.answers) == other.done.usage.decode_steps
        assert model.live.explainer.figures.cancelled == 1


async def test_closing_the_iterator_ends_it() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        events = model.live.explainer.explain(REQUEST)
        assert isinstance(await anext(events), Grade)
        with engine.blocked():
            await events.aclose()
            model.assert_nothing_held()
            num_steps = len(engine.answers)
        assert model.live.explainer.figures.cancelled == 1
        other = await model.explain(ExplanationRequest(pair(1), 1))
        assert len(engine.answers) <= num_steps + 1 + other.done.usage.decode_steps


async def test_a_thousand_opened_and_abandoned_hold_nothing_and_scores_go_on() -> None:
    async with running(max_explanations=50, explain_kv_mib=0) as model:
        for start in range(0, 1000, 50):
            streams = [
                model.live.explainer.explain(ExplanationRequest(pair(number), number % 4))
                for number in range(start, start + 50)
            ]
            await asyncio.gather(*(anext(one) for one in streams))
            if start % 100:
                await asyncio.gather(*(anext(one) for one in streams))
            await asyncio.gather(*(one.aclose() for one in streams))
            model.assert_nothing_held()
        figures = model.live.explainer.figures
        assert figures.admitted == 1000 == figures.cancelled + figures.finished
        assert model.live.explainer.store_bytes == 0
        assert await model.grade(PAIR) in range(4)
        assert (await model.explain(REQUEST)).error is None


async def test_a_failed_step_fails_its_streams_and_nothing_after_it() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        engine.fail_on = lambda _: ValueError("broken")
        failed = await model.explain(REQUEST)
        assert isinstance(failed.error, EngineFailedError)
        model.assert_nothing_held()
        engine.fail_on = lambda _: None
        assert (await model.explain(REQUEST)).error is None
        assert model.live.explainer.figures.failed == 1


async def test_when_the_engine_dies_every_stream_is_told() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        with engine.blocked():
            tasks = [await model.begun(ExplanationRequest(pair(number), 1)) for number in range(3)]
            engine.fail_on = lambda _: ThreadDeath()
        for one in await asyncio.gather(*tasks):
            assert isinstance(one.error, EngineDeadError)
        assert isinstance((await model.explain(REQUEST)).error, EngineDeadError)
        model.assert_nothing_held()


async def test_when_the_model_closes_every_stream_is_told() -> None:
    engine = FakeEngine()
    async with running(build=lambda: engine) as model:
        with engine.blocked():
            task = await model.begun(REQUEST)
            await asyncio.to_thread(engine.wait_for_call)
            closing = asyncio.create_task(model.live.close())
            await asyncio.sleep(0)
        await closing
        assert isinstance((await task).error, NotReadyError)
        model.assert_nothing_held()


async def test_a_deadline_ends_it() -> None:
    engine, clock = FakeEngine(), FakeClock()
    async with running(build=lambda: engine, clock=clock) as model:
        with engine.blocked():
            task = await model.begun(replace(REQUEST, deadline=clock.now + 0.02))
            found = await task
        assert isinstance(found.error, DeadlineExceededError)
        model.assert_nothing_held()
        assert model.live.explainer.figures.expired == 1


async def test_scores_that_wait_go_before_explanations() -> None:
    engine = FakeEngine()
    calls: list[tuple[int, int]] = []

    def note(_: object) -> None:
        calls.append((len(engine.packs), len(engine.answers)))

    async with running(build=lambda: engine, explain_share=0.0) as model:
        with engine.blocked():
            task = await model.begun(REQUEST)
            await asyncio.to_thread(engine.wait_for_call)
            scores = [asyncio.create_task(model.grade(pair(number))) for number in range(4)]
            while model.live.scheduler.num_waiting_documents < 4:
                await asyncio.sleep(0)
            engine.fail_on = note
        await asyncio.gather(*scores)
        assert (await task).error is None
    last_pack = max(num_packs for num_packs, _ in calls)
    assert last_pack > 1
    assert min(num_steps for num_packs, num_steps in calls if num_packs == last_pack) == 0


async def test_cut_as_it_was_scored() -> None:
    async with running() as model:
        cut = Cut(max_document_tokens=6)
        await model.live.scorer.score([PAIR], cut, Terms(keeps_kv=True))
        assert (await model.explain(replace(REQUEST, cut=cut))).done.resumed
        assert not (await model.explain(REQUEST)).done.resumed
