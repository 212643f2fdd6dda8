"""The playground as a person uses it: type, score, explain, and what goes wrong."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route

from tests.api.test_program import Program, running
from tests.browser.conftest import DESK, PHONE, Open, Visit

QUERY = "usb c cable"
DOCUMENTS = ["HDMI cable", "USB-C to USB-C 1 m", "<img src=x onerror=alert(1)> & wool socks " + "o" * 150]
KEY = "a-key-for-the-playground"


def scored(visit: Visit) -> Visit:
    visit.fill(QUERY, *DOCUMENTS)
    visit.score()
    return visit


def test_what_is_typed_is_ranked_as_the_service_scores_it(visit: Open, program: Program) -> None:
    there = scored(visit())
    results = httpx.post(f"{program.url}/score", json={"query": QUERY, "documents": DOCUMENTS}).json()["results"]
    ranked = sorted(results, key=lambda result: -result["score"])
    cards = there.page.locator(".card")
    assert cards.locator(".document").all_inner_texts() == [DOCUMENTS[result["index"]] for result in ranked]
    assert cards.locator(".score").all_inner_texts() == [f"{result['score']:.3f}" for result in ranked]
    assert cards.locator(".badge").all_inner_texts() == [f"{one['grade']} {one['grade_name']}" for one in ranked]
    assert (cards.first.locator(".distribution").get_attribute("aria-label") or "").count("%") == 4
    stages = " ".join(there.page.locator(".timing li").all_inner_texts())
    assert all(stage in stages for stage in ("tokenise", "queue", "infer", "post", "other", "network"))
    assert there.complaints == []
    assert there.hosts == {program.url.removeprefix("http://")}


def test_a_sample_of_the_model_card_is_one_click(visit: Open) -> None:
    page = visit().page
    page.get_by_role("button", name=QUERY).click()
    page.locator(".card").nth(2).wait_for()
    assert sorted(page.locator(".card .document").all_inner_texts()) == [
        "HDMI cable",
        "USB-C to USB-C 1 m",
        "wool socks",
    ]


def test_what_was_cut_is_marked_and_several_pasted_lines_are_several_documents(visit: Open) -> None:
    there = visit()
    there.page.get_by_label("Query", exact=True).fill(QUERY)
    there.page.evaluate(
        """(text) => {
          const data = new DataTransfer();
          data.setData("text/plain", text);
          const field = document.querySelector("#documents textarea");
          field.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
        }""",
        "short\n" + "usb cable " * 400,
    )
    there.score()
    cards = there.page.locator(".card")
    assert cards.count() == 2
    assert cards.filter(has_text="short").locator(".cut").count() == 0
    long = cards.filter(has=there.page.locator(".cut"))
    assert long.count() == 1
    long.get_by_role("button", name="Show all of it").click()
    assert long.locator(".document.open").count() == 1


def test_the_keyboard_is_enough(visit: Open) -> None:
    there = scored(visit())
    page = there.page
    page.locator("#theme").focus()
    for keys, focused in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(keys)
        assert page.evaluate("[...document.querySelectorAll('.card')].indexOf(document.activeElement)") == focused
    page.keyboard.press("e")
    page.locator(".card").first.locator(".reason").wait_for()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.get_by_label("Document 3", exact=True).focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.press("Backspace")
    assert page.locator("#documents li").count() == 2


def test_what_is_wrong_is_said_where_it_is_wrong(visit: Open) -> None:
    there = visit()
    page, problem = there.page, there.page.get_by_role("alert")
    page.get_by_role("button", name="Score").click()
    assert problem.inner_text() == "Give a query."
    assert page.evaluate("document.activeElement.id") == "query"
    there.fill(QUERY, "one")
    page.get_by_text("Options").click()
    page.get_by_label("Timeout in milliseconds").fill("99999999")
    page.keyboard.press("Control+Enter")
    problem.get_by_text("invalid_fields").wait_for()
    assert "timeout_ms" in problem.inner_text()
    page.get_by_label("Timeout in milliseconds").fill("")
    there.context.set_offline(True)
    page.keyboard.press("Control+Enter")
    problem.get_by_text("cannot be reached").wait_for()
    there.context.set_offline(False)
    there.score()
    assert problem.is_hidden()


def test_what_was_not_scored_in_time_comes_last_and_says_so(visit: Open) -> None:
    there = visit()
    there.fill(QUERY, "first", "second")
    late = {
        "scored": False,
        **dict.fromkeys(("grade", "grade_name", "distribution", "score", "truncated", "num_tokens")),
    }

    def answer_half(route: Route) -> None:
        body = route.fetch().json()
        body["results"][0] = {"index": 0, **late}
        route.fulfill(json={**body, "coverage": 0.5})

    there.page.route("**/score", answer_half)
    there.score()
    assert there.page.locator(".card .document").all_inner_texts() == ["second", "first"]
    assert there.page.locator(".card").last.get_by_text("not scored in time").count() == 1
    assert there.page.locator(".why").count() == 1
    assert "50 % scored in time" in there.page.locator(".cost").inner_text()


@pytest.fixture(scope="module")
def guarded(carded: Path) -> Iterator[Program]:
    """A service with a key and a candidate."""
    with running("--artifact", str(carded), "--shadow-artifact", str(carded), "--api-keys", f"page {KEY}") as one:
        one.wait_until_said("shadow_ready")
        yield one


def test_a_key_is_asked_for_and_a_candidate_is_shown_beside_the_artifact(visit: Open, guarded: Program) -> None:
    there = visit(guarded.url)
    page = there.page
    there.fill(QUERY, *DOCUMENTS)
    page.keyboard.press("Control+Enter")
    page.get_by_label("Key", exact=True).fill(KEY)
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Use it").click()
    there.score()
    page.locator(".candidate").nth(2).wait_for()
    shown, other = (
        page.locator(f".card > {place} .score").all_inner_texts() for place in (".head", ".candidate > .head")
    )
    assert shown == other
    assert page.locator(".candidate").get_by_text("same place").count() == 3
    assert page.locator(".candidate .flip").count() == 0
    assert page.get_by_role("alert").count() == 0


def test_the_colours_can_be_chosen_and_are_kept(visit: Open) -> None:
    page = visit().page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for _ in range(2):
        page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Dark"
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_the_snippets_ask_what_the_page_asked(visit: Open, program: Program) -> None:
    there = visit()
    there.fill("it's a 'usb' cable, true: null", 'a "quoted" text, with: marks', "naïve ☕ {braces} \\ $HOME")
    there.score()
    top = there.page.locator(".card .score").first.inner_text()
    for tab, command in (
        ("curl", ["bash", "-c"]),
        ("Python", [sys.executable, "-c"]),
        ("httpx", [sys.executable, "-c"]),
    ):
        there.page.get_by_role("tab", name=tab).click()
        source = there.page.locator("#snippet").inner_text()
        said = subprocess.run([*command, source], capture_output=True, text=True, check=True).stdout
        assert top in {f"{float(number):.3f}" for number in re.findall(r"\d\.\d+", said)}, tab


def test_the_interface_is_shown_without_another_host(visit: Open, program: Program) -> None:
    there = visit(f"{program.url}/docs")
    there.page.get_by_text("Grade documents for a query").first.wait_for()
    assert there.hosts <= {program.url.removeprefix("http://"), ""}
    assert there.complaints == []


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")], ids=["desk-dark", "phone-light"])
def test_it_is_accessible_and_never_wider_than_the_window(visit: Open, size: tuple[int, int], scheme: str) -> None:
    there = visit(size=size, scheme=scheme)
    states = []

    def look(state: str) -> None:
        results = Axe().run(there.page)
        found = [node["failureSummary"] for one in results.response["violations"] for node in one["nodes"]]
        states.append((state, found, there.is_wider_than_the_window))

    there.page.get_by_role("button", name="Score").click()
    look("problem")
    scored(there).page.get_by_role("tab", name="Python").click()
    look("scored")
    assert states == [("problem", [], False), ("scored", [], False)]
