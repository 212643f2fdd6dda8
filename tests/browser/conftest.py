"""A real Chromium at the running service. Debian's is `apt-get install chromium`; any Chrome on the path will do."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from relevance.artifact import CARD_FILE
from tests.api.test_program import TINY, Program, running

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SAMPLES = """# Card

## Sample queries
- **usb c cable**
    1. USB-C to USB-C 1 m
    2. HDMI cable
    3. wool socks
"""
PHONE, DESK = (390, 844), (1280, 900)


def find_chromium() -> str:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path (apt-get install chromium)")
    return path


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Lives as long as this package's tests: while it does, no async test can run in the process."""
    path = find_chromium()
    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def carded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact with a model card."""
    folder = tmp_path_factory.mktemp("carded") / "artifact"
    shutil.copytree(TINY, folder)
    (folder / CARD_FILE).write_text(SAMPLES, encoding="utf-8")
    return folder


@pytest.fixture(scope="package")
def program(carded: Path) -> Iterator[Program]:
    with running("--artifact", str(carded), "--max-documents", "20") as one:
        yield one


@dataclass
class Visit:
    """A page with what it said and asked for."""

    page: Page
    context: BrowserContext
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def fill(self, query: str, *documents: str) -> None:
        """Type a query and documents as a person does, with the keyboard."""
        self.page.get_by_label("Query", exact=True).fill(query)
        self.page.get_by_label("Document 1", exact=True).click()
        for number, document in enumerate(documents, start=1):
            self.page.keyboard.insert_text(document)
            if number < len(documents):
                self.page.keyboard.press("Enter")

    def score(self) -> None:
        """Press the keys that score, and wait for the answer."""
        self.page.keyboard.press("Control+Enter")
        self.page.locator(".card").first.wait_for()
        self.page.locator("#go:not([aria-busy])").wait_for()

    @property
    def is_wider_than_the_window(self) -> bool:
        return bool(self.page.evaluate("document.scrollingElement.scrollWidth > innerWidth"))


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, program: Program) -> Iterator[Open]:
    """Opens the playground, or another page, of a service; whatever the browser's console complains of is kept."""
    contexts: list[BrowserContext] = []

    def open_page(url: str = program.url, size: tuple[int, int] = DESK, scheme: str = "light") -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(20_000)
        visit = Visit(context.new_page(), context)
        visit.page.on(
            "request", lambda request: visit.hosts.add(request.url.split("/")[2] if "//" in request.url else "")
        )
        visit.page.on(
            "console", lambda message: visit.complaints.append(message.text) if message.type == "error" else None
        )
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.goto(url)
        visit.page.locator("#model:not(:empty), #interface").wait_for()
        return visit

    yield open_page
    for context in contexts:
        context.close()
