"""A real browser without a window, for tests of pages; tests are skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = os.environ.get("REFCODEC_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed, and REFCODEC_BROWSER names none")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A page in a browser that may not fetch anything; fails if a script of the page fails or something is fetched."""
    api = pytest.importorskip("playwright.sync_api")
    errors: list[object] = []
    with api.sync_playwright() as p:
        arguments = ["--no-sandbox", "--no-zygote", "--single-process", "--disable-gpu"]
        browser = p.chromium.launch(executable_path=BROWSER, args=arguments)
        page = browser.new_page()
        page.on("pageerror", lambda error: errors.append(error))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or errors.append(request.url))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert not errors
