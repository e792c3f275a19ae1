"""A real browser to open pages in: the Chromium that is on the path, or at DEEPRAG_CHROMIUM."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
Open = Callable[..., Page]


@pytest.fixture(scope="module")  # its event loop must be gone when the next module's tests want one
def browser() -> Iterator[Browser]:
    found = os.environ.get("DEEPRAG_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        sentence = "no Chromium: install one, or name it in DEEPRAG_CHROMIUM"
        pytest.fail(sentence) if os.environ.get("CI") else pytest.skip(sentence)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=list(_ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Return what opens a page; at the end none may have said a word in the console or asked for anything else."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def open(page: str, *, width: int = 1280, **settings: Any) -> Page:
        file = tmp_path / "page.html"
        file.write_text(page, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("dialog", lambda dialog: said.append(dialog.message))
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(file.as_uri())
        return opened

    yield open
    for context in contexts:
        context.close()
    assert not said
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} <= {
        (tmp_path / "page.html").as_uri()
    }
