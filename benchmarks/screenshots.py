"""Pictures of the playground for the pages, from the real service in a real browser.

    python -m benchmarks.screenshots [--artifact artifacts/default] [--out docs/images]

Takes the first sample of the artifact's model card, scores it and explains the best document; once light on a desk,
once dark on a phone. Needs a Chromium on the path (Debian: `apt-get install chromium`).
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.served import ROOT, serving

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESK, PHONE = (1280, 1000), (390, 1100)


def take(browser: Browser, url: str, size: tuple[int, int], scheme: str, out: Path) -> None:
    """One picture: scored, and the best document explained."""
    dark = "dark" if scheme == "dark" else "light"
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=dark,
        reduced_motion="reduce",
        device_scale_factor=1.5,
    )
    page.goto(url)
    page.locator(".sample").first.click()
    page.locator(".why").first.click()
    page.locator(".reason .end", has_text="tokens in").wait_for()
    if size == PHONE:
        page.locator("#cards").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('cards').scrollIntoView()")
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=out)
    page.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, default=ROOT / "artifacts" / "default")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    args = parser.parse_args(argv)
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with serving(args.artifact) as served, sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        url = f"http://{served.host}:{served.port}/"
        take(browser, url, DESK, "light", args.out / "playground.png")
        take(browser, url, PHONE, "dark", args.out / "playground_phone.png")
        browser.close()


if __name__ == "__main__":
    main()
