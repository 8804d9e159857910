"""The panel in a real browser: it opens by itself, refreshes itself, and can be used by everybody."""

import os
import shutil
import threading
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from werkzeug.serving import make_server

from tests.panel.conftest import Site, at

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = (1280, 390)
POLL_S = 15


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: install one, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """Where the site answers."""
    server = make_server("127.0.0.1", 0, site.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def _opened(
    browser: Browser, site: Site, address: str, complaints: list[str], *, width: int = 1280, scheme: str = "light"
) -> Page:
    """The panel as it opens from the platform, in a window that notes whatever the browser complains about."""
    page = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",  # a colour on its way to another has no contrast to judge
    ).new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(error.message))
    page.goto(f"{address}/billing/open/{site.token('acme')}")
    page.wait_for_url(f"{address}/billing/")
    return page


@pytest.fixture
def acme(site: Site) -> None:
    site.customer("acme")
    site.use("acme", "2026-10-20", "20.001", app="web", region="ams", item="machine")
    site.close("2026-11-01")
    site.finalize("acme", "2026-10", on="2026-11-02")
    site.use("acme", "2026-11-03", "10", app="web", region="ams", item="machine")
    site.use("acme", "2026-11-09", "5", app="a-rather-long-name-of-an-app-that-never-ends", region="fra", item="volume")


@pytest.mark.usefixtures("acme")
def test_a_link_opens_by_itself_and_the_page_keeps_itself_up_to_date(
    browser: Browser, site: Site, address: str
) -> None:
    complaints: list[str] = []
    page = _opened(browser, site, address, complaints)
    assert page.inner_text(".huge") == "$15.00"
    page.click("#days summary")
    page.focus("text=By region")
    site.use("acme", at("2026-11-10").isoformat()[:10], "2.50", app="web", region="ams")
    for _ in range(4 * POLL_S):
        if page.inner_text(".huge") != "$15.00":
            break
        page.wait_for_timeout(500)
    assert page.inner_text(".huge") == "$17.50"
    assert page.evaluate("document.querySelector('#days').open"), "what was unfolded stays unfolded"
    assert page.evaluate("document.activeElement.innerText") == "By region", "what had the focus keeps it"
    assert complaints == []


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_and_is_accessible(browser: Browser, site: Site, address: str, scheme: str) -> None:
    invoice_id = site.invoice_id("acme", "2026-10")
    complaints: list[str] = []
    for width in WIDTHS:
        page = _opened(browser, site, address, complaints, width=width, scheme=scheme)
        for path in ("/billing/", "/billing/?by=app", "/billing/invoices", f"/billing/invoices/{invoice_id}"):
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than {width}"
            assert complaints == [], path
            _check_access(page, path)
            complaints.clear()  # the checker itself tries inline styles, which our policy refuses
        page.click("main tbody a >> nth=0")
        assert complaints == []
        _check_access(page, "a line")
        complaints.clear()


def _check_access(page: Page, path: str) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, f"{path}: {found.generate_report()}"


@pytest.mark.usefixtures("acme")
def test_without_scripts_one_click_opens_the_panel(browser: Browser, site: Site, address: str) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{address}/billing/open/{site.token('acme')}")
    page.click("button")
    page.click("text=By app")
    assert page.locator("th", has_text="web").count() == 1
