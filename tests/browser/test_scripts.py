"""The page's own modules where a table of cases says more than a click: quotes in documents, events in a stream."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.api.test_program import Program

FIND = "async ([text, quote]) => (await import('/playground/highlight.js')).find(text, quote)"
EVENTS = """async ([text, size]) => {
  const { readEvents } = await import('/playground/service.js');
  const bytes = new TextEncoder().encode(text);
  const stream = new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    },
  });
  const found = [];
  for await (const { event, data } of readEvents(stream)) found.push([event, data]);
  return found;
}"""


@pytest.fixture(scope="module")
def page(browser: Browser, program: Program) -> Iterator[Page]:
    page = browser.new_page()
    page.goto(program.url)
    yield page
    page.close()


@pytest.mark.parametrize(
    ("text", "quote", "marked"),
    [
        ("A USB-C to USB-C cable, 60 W", "usb - c cable", "USB-C cable"),
        ("Crème  brûlée\nfor two", "creme brulee for", "Crème  brûlée\nfor"),
        ("e\u0301clair and tea", "eclair", "e\u0301clair"),
        ("barstool and stools", "stools", "stools"),
        ("a <b> | c; d", "( b ) / c , d", "<b> | c; d"),
        ("日本 ☕ 紅茶", "☕ 紅茶", "☕ 紅茶"),
        ("usbc", "usb", None),
        ("anything", "", None),
        ("short", "a much longer quote", None),
    ],
)
def test_a_quote_is_found_by_its_words(page: Page, text: str, quote: str, marked: str | None) -> None:
    place = page.evaluate(FIND, [text, quote])
    # JavaScript counts UTF-16 units; all of these texts have one a character.
    assert (None if place is None else text[place[0] : place[1]]) == marked


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_read_however_the_stream_is_cut(page: Page, size: int) -> None:
    text = (
        ': ping\n\nid: 1-00\nevent: delta\ndata: {"text": "caf\u00e9 \u2615"}\n\n'
        'event: step\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: 5\n\nevent: lost\ndata: {"cut'
    )
    found: list[Any] = page.evaluate(EVENTS, [text, size])
    assert found == [["delta", {"text": "café ☕"}], ["step", {"a": 1}], ["message", 5]]
