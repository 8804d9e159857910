"""How every browser of ours is started, and how a page is judged in it."""

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Headless, and without the calls home that a browser makes by itself."""

_AXE = Axe()
_FULL = {"resultTypes": ["violations"]}
_COLOURS = {**_FULL, "runOnly": ["color-contrast"]}
BOTH_WIDTHS = ((1280, "light", _FULL), (390, "dark", _FULL))
"""Each width and each colour scheme once."""
ALL_WINDOWS = (*BOTH_WIDTHS, (390, "light", _COLOURS), (1280, "dark", _COLOURS))
"""Each width in each colour scheme. A scheme changes nothing but colours: other rules are asked once of a width."""


def assert_usable(page: Page, name: str, *, windows: Sequence[tuple[int, str, dict[str, Any]]] = ALL_WINDOWS) -> None:
    """The page, as it was loaded, fits these windows and breaks none of axe's rules in them.

    Axe tries inline styles, which our policy rightly refuses and the console reports: listen to it before. The window
    keeps the last width and scheme.
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
