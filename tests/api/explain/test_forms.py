"""/score gives handles; /explain takes them, or pairs, one or many, and answers as it is asked to."""

import asyncio
import json

import pytest

from relevance.explanation import STEPS, Explanation, check
from service.explain_api.bodies import BatchAnswer, ExplainAnswer, LaterAnswer, LaterBatchAnswer
from service.explain_api.stream import END
from service.settings import Settings
from tests.api.explain.conftest import JSON, PAIR, Live, data_of, listening
from tests.fakes import GRADE_NAMES

DOCUMENTS = ["USB-C to USB-C 1 m", "HDMI cable", "", "naïve · 充电线 🔌 cable"]


async def test_no_handle_unless_asked_for(live: Live) -> None:
    answer = (await live.client.post("/score", json={"query": "q", "documents": ["d"]})).json()
    assert "handle" not in answer["results"][0]
    assert await live.metric("relevance_handles_total") == 0
    assert len(set(await live.handles(*DOCUMENTS))) == 4
    assert await live.metric("relevance_handles_total") == 4


async def test_the_explanation_is_of_the_grade_that_was_given(live: Live) -> None:
    body = {"query": "usb c cable", "documents": DOCUMENTS, "explain": True}
    results = (await live.client.post("/score", json=body)).json()["results"]
    for result, document in zip(results, DOCUMENTS, strict=True):
        events = data_of(await live.events({"handle": result["handle"]}))
        first, last = events[0], events[-1]
        assert first[0] == "grade"
        assert (first[1]["grade"], first[1]["grade_name"]) == (result["grade"], result["grade_name"])
        steps = {data["step"]: data["value"] for name, data in events if name == "step"}
        assert list(steps) == list(STEPS)
        assert steps["verdict"] == result["grade"]
        assert check(Explanation.from_json(steps), "usb c cable", document, result["grade"]) == []
        assert last[0] == "done"
        assert (last[1]["resumed"], last[1]["source"]) == (True, "decoded")
        deltas = [data for name, data in events if name == "delta"]
        assert "".join(data["text"] for data in deltas if data["step"] == "wants") == steps["wants"]


async def test_one_answer_of_json_says_the_same(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    events = data_of(await live.events({"handle": handle}))
    response = await live.explain({"handle": handle}, JSON)
    answer = response.json()
    assert ExplainAnswer.model_validate_json(response.content).model_dump() == answer
    assert answer["explanation"] == {data["step"]: data["value"] for name, data in events if name == "step"}
    assert (answer["source"], answer["usage"]) == ("cached", events[-1][1]["usage"])
    assert answer["explain_id"] == events[0][1]["explain_id"]


async def test_a_pair_is_scored_first(live: Live) -> None:
    answer = (await live.explain(PAIR, JSON)).json()
    scored = (await live.client.post("/score", json={"pairs": [PAIR]})).json()["results"][0]
    assert (answer["grade"], answer["grade_name"]) == (scored["grade"], scored["grade_name"])
    assert answer["explanation"]["verdict"] == scored["grade"]
    named = await live.explain({**PAIR, "grade": scored["grade"]}, JSON)
    assert named.json()["source"] == "cached"
    other = (scored["grade"] + 1) % len(GRADE_NAMES)
    refused = await live.explain({**PAIR, "grade": other}, JSON)
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "grade")
    assert refused.json()["error"]["message"].endswith(f"({scored['grade_name']}), not {other}")


async def test_later(live: Live) -> None:
    (handle,) = await live.handles("HDMI cable")
    response = await live.explain({"handle": handle})
    later = LaterAnswer.model_validate_json(response.content)
    assert (response.status_code, response.headers["location"]) == (202, later.stream_url)
    assert await live.metric("relevance_explanations_under_way") == 0  # nothing is decoded before somebody reads
    read = data_of(await live.events(explain_id=later.explain_id))
    assert read == [*data_of(await live.events({"handle": handle}))[:-1], read[-1]]


async def test_several_at_once_each_in_its_place(live: Live) -> None:
    handles = await live.handles(*DOCUMENTS)
    alone = [(await live.explain({"handle": handle}, JSON)).json()["explanation"] for handle in handles]
    response = await live.explain({"handles": handles}, JSON)
    answer = response.json()
    assert BatchAnswer.model_validate_json(response.content).model_dump() == answer
    assert [result["explanation"] for result in answer["results"]] == alone
    told: dict[int, dict[str, object]] = {}
    for name, data in data_of(await live.events({"handles": handles})):
        if name == "step":
            told.setdefault(data["index"], {})[data["step"]] = data["value"]
    assert [told[index] for index in range(4)] == alone
    later = await live.explain({"handles": handles})
    places = LaterBatchAnswer.model_validate_json(later.content).results
    assert [place.index for place in places] == [0, 1, 2, 3]
    last = data_of(await live.events(explain_id=places[2].explain_id))
    assert {data["step"]: data["value"] for name, data in last if name == "step"} == alone[2]
    pairs = [{"query": "usb c cable", "document": document} for document in DOCUMENTS]
    of_pairs = (await live.explain({"pairs": pairs}, JSON)).json()["results"]
    assert [result["explanation"] for result in of_pairs] == alone


async def test_what_fails_alone_fails_in_its_place(live: Live) -> None:
    handles = await live.handles(*DOCUMENTS)
    whole = (await live.explain({"handles": handles}, JSON)).json()["results"]
    num_tokens = [result["usage"]["completion_tokens"] for result in whole]
    body = {"handles": handles, "max_tokens": min(num_tokens)}
    results = (await live.explain(body, JSON)).json()["results"]
    codes = [result.get("error", {}).get("code") for result in results]
    assert codes == [None if number == min(num_tokens) else "explanation_cut" for number in num_tokens]
    assert set(codes) == {None, "explanation_cut"}
    ends = {data["index"]: name for name, data in data_of(await live.events(body)) if name in ("done", "error")}
    assert [ends[index] for index in range(4)] == ["error" if code else "done" for code in codes]


async def test_a_drawn_seed_is_told_again_and_a_given_one_gives_the_same(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    body = {"handle": handle, "temperature": 2.0}
    ids = {(await live.explain(body)).json()["explain_id"] for _ in range(3)}
    assert len(ids) == 3
    first = data_of(await live.events(explain_id=ids.pop()))
    other = data_of(await live.events(explain_id=ids.pop()))
    assert first[1:-1] != other[1:-1]
    one, two = [(await live.explain({**body, "seed": 5}, JSON)).json() for _ in range(2)]
    assert one["explanation"] == two["explanation"]
    assert (one["source"], two["source"]) == ("decoded", "cached")


async def test_readers_of_the_same_share_one_decode(live: Live) -> None:
    (handle,) = await live.handles("USB-C to USB-C 1 m")
    with live.service.engine.blocked():
        readers = [asyncio.create_task(live.explain({"handle": handle}, JSON)) for _ in range(5)]
        await live.wait_for("relevance_explain_streams", 1)
        await live.wait_for('relevance_explanation_sources_total{source="shared"}', 4)
    answers = [(await reader).json() for reader in readers]
    assert len({json.dumps(answer["explanation"]) for answer in answers}) == 1
    assert sorted(answer["source"] for answer in answers) == ["decoded", *["shared"] * 4]
    assert await live.metric('relevance_explain_begun_total{kv="resumed"}') == 1


async def test_the_texts_may_come_along() -> None:
    async with listening(Settings(max_pack_tokens=64, explain_texts_mib=1)) as live:
        (handle,) = await live.handles(PAIR["document"])
        expected = (await live.explain({"handle": handle}, JSON)).json()
        await live.handles("x" * 600_000, "y" * 600_000)  # push it out
        gone = await live.explain({"handle": handle}, JSON)
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "handle_gone")
        assert gone.json()["error"]["field"] == "handle"
        answer = (await live.explain({"handle": handle, **PAIR}, JSON)).json()
        assert answer["explanation"] == expected["explanation"]
        again = await live.explain({"handle": handle}, JSON)
        assert again.status_code == 200, "what came along is kept"
        wrong = await live.explain({"handle": handle, **PAIR, "document": "another"}, JSON)
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "document")


@pytest.mark.parametrize(("last", "status"), [(END, 204), ("junk", 422), ("7", 422)])
async def test_what_an_event_source_says_when_it_comes_back(live: Live, last: str, status: int) -> None:
    later = (await live.explain(PAIR)).json()
    response = await live.client.get(later["stream_url"], headers={"last-event-id": last})
    assert response.status_code == status
