"""A Chromium that never leaves the page, and notes whatever went wrong on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""


@dataclass
class Noise:
    """Console errors, uncaught exceptions, and requests for anything but local files and embedded data."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped, with the reason, where there is none."""
    if not CHROMIUM or not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: set CHROMIUM to its path to run the browser tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, path: Path, *, width: int = 1280, dark: bool = False) -> tuple[Page, Noise]:
    """Open a local HTML file and listen to it from the first byte on."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    noise = Noise()
    page.on("console", lambda message: noise.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: noise.errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:", "blob:")) else noise.requests.append(request.url)
        ),
    )
    page.goto(path.absolute().as_uri())
    page.wait_for_load_state("load")
    return page, noise


def leaves(url: str) -> bool:
    """Whether a request for `url` would leave the file that was opened."""
    return not url.startswith(("file:", "data:", "blob:"))


def screenshot(page: Page, name: str) -> None:
    """Keep a picture where FIRSTTOKEN_SCREENSHOTS names a folder, for a person to look at."""
    folder = os.environ.get("FIRSTTOKEN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
