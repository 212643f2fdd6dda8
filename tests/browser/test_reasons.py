"""The playground's explanations: asked for by a click, streamed into the card, quotes marked."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Route

from tests.browser.conftest import DESK, PHONE, Open, Visit
from tests.browser.test_playground import scored

STEPS = ["wants", "exactness", "coverage", "topicality", "context", "evidence", "missing", "verdict"]


def explained(visit: Visit) -> Visit:
    scored(visit).page.locator(".why").first.click()
    visit.page.locator(".reason .end", has_text="tokens in").wait_for()
    return visit


def test_an_explanation_streams_in_and_its_quotes_are_marked(visit: Open) -> None:
    there = explained(visit())
    card = there.page.locator(".card").first
    names = card.locator(".steps dt").all_inner_texts()
    assert names == STEPS
    assert card.locator(".step-verdict .badge").inner_text() in card.locator(".head .badge").inner_text()
    assert card.locator(".streaming").count() == 0
    quotes = card.locator(".step-evidence .quote").count()
    assert (card.locator(".document mark").count() > 0) == (quotes > 0)
    assert there.complaints == []
    button = card.get_by_role("button", name="Explain number 1")
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert not card.locator(".reason").is_visible()


def test_quotes_are_marked_where_they_stand_and_a_criterion_is_shown_as_it_is(visit: Open) -> None:
    there = scored(visit())
    card = there.page.locator(".card", has_text="USB-C to USB-C 1 m")
    told = [
        ("grade", {"grade": 0}),
        ("delta", {"step": "coverage", "text": "2"}),
        ("step", {"step": "coverage", "value": 2}),
        ("step", {"step": "evidence", "value": ["usb - c 1 m", "hdmi"]}),
        ("step", {"step": "missing", "value": []}),
    ]
    body = "".join(f"event: {event}\ndata: {json.dumps(data)}\n\n" for event, data in told)
    there.page.route("**/explain", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    card.locator(".why").click()
    card.locator(".end.failed").wait_for()
    assert card.locator(".document mark").all_inner_texts() == ["USB-C 1 m"]
    assert card.locator(".quote").all_inner_texts() == ["usb - c 1 m", "hdmi"]
    assert card.locator(".step-coverage .pip.full").count() == 2
    assert card.get_by_role("img", name="2 of 3").count() == 1
    assert card.locator(".step-missing dd").inner_text() == "none"


def test_a_line_that_breaks_is_taken_up_where_it_broke(visit: Open) -> None:
    there = scored(visit())
    cuts = iter([3, 1])
    behind: list[str | None] = []

    def cut(route: Route) -> None:
        behind.append(route.request.headers.get("last-event-id"))
        events = route.fetch().text().split("\n\n")
        kept = next(cuts, len(events))
        route.fulfill(content_type="text/event-stream", body="\n\n".join(events[:kept]) + "\n\n")

    there.page.route(re.compile(r"/explain(/|$)"), cut)
    there.page.locator(".why").first.click()
    there.page.locator(".reason .end", has_text="tokens in").wait_for()
    assert [place and place.partition("-")[0] for place in behind] == [None, "2", "3"]
    assert there.page.locator(".steps dt").all_inner_texts() == STEPS
    assert there.page.locator(".steps").inner_text() == explained(visit()).page.locator(".steps").inner_text()


def test_a_line_that_breaks_in_the_middle_of_an_explanation_is_no_explanation(visit: Open) -> None:
    there = scored(visit())
    broken = 'event: grade\ndata: {"grade": 0}\n\nevent: delta\ndata: {"step": "wants", "text": "usb"}\n\n'
    there.page.route("**/explain", lambda route: route.fulfill(content_type="text/event-stream", body=broken))
    there.page.locator(".why").first.click()
    there.page.get_by_text("The line broke").wait_for()
    there.page.unroute("**/explain")
    there.page.get_by_role("button", name="Try again").click()
    there.page.locator(".reason .end", has_text="tokens in").wait_for()


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"])
def test_an_explanation_is_accessible_and_no_wider_than_the_window(
    visit: Open, size: tuple[int, int], scheme: str
) -> None:
    there = explained(visit(size=size, scheme=scheme))
    assert [found["id"] for found in Axe().run(there.page).response["violations"]] == []
    assert not there.is_wider_than_the_window
