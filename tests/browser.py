"""How every browser of ours is started, and how a page is judged in it."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Headless, and without the calls home that a browser makes by itself."""

NO_BROWSER = "no Chromium: install one, or set CHROMIUM to its path"

_AXE = Axe()
# Without "preload" axe does not fetch our style sheets a second time, their imports from the wrong folder.
_FULL = {"resultTypes": ["violations"], "preload": False}
_COLOURS = {**_FULL, "runOnly": ["color-contrast"]}
BOTH_WIDTHS = ((1280, "light", _FULL), (390, "dark", _FULL))
"""Each width and each colour scheme once."""
ALL_WINDOWS = (*BOTH_WIDTHS, (390, "light", _COLOURS), (1280, "dark", _COLOURS))
"""Each width in each colour scheme. A scheme changes nothing but colours: other rules are asked once of a width."""


def executable() -> str | None:
    """Where Chromium lies: what CHROMIUM says, or the first that the path has."""
    found = (os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    return next((path for path in found if path), None)


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """This Chromium, until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Complaints:
    """What speaks against a page since it was opened: its console, its scripts, and what it asked for in vain.

    A refused form (422) is an answer like any other. Chromium reports it as an error all the same, and does so when it
    likes; what a server answered is therefore taken from the answers.
    """

    def __init__(self, page: Page) -> None:
        self._texts: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._texts.append(str(error)))
        page.on("response", self._answered)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self._texts.append(message.text)

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status != 422:
            self._texts.append(f"{response.status} for {response.request.method} {response.url}")

    def assert_none(self, name: str = "") -> None:
        assert self._texts == [], name


def assert_usable(page: Page, name: str, *, windows: Sequence[tuple[int, str, dict[str, Any]]] = ALL_WINDOWS) -> None:
    """The page, as it was loaded, fits these windows and breaks none of axe's rules in them.

    Axe tries inline styles, which our policy rightly refuses and the console reports, at once or later: have no
    `Complaints` about the same page asked afterwards. The window keeps the last width and scheme.
    """
    for width, scheme, options in windows:
        page.set_viewport_size({"width": width, "height": 850})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width}"
        if page.evaluate("typeof axe") == "undefined":
            page.evaluate(_AXE.axe_script)
        found = page.evaluate("options => axe.run(options)", options)["violations"]
        told = [(rule["id"], [node["html"] for node in rule["nodes"]][:3]) for rule in found]
        assert found == [], (name, width, scheme, told)
