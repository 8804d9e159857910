"""The panel in a real browser: it opens by itself, refreshes itself, and can be used by everybody."""

import os
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from invoicing.credit.grants import grant_credit
from invoicing.credit.refills import set_refill
from invoicing.credit.top_ups import top_up
from invoicing.customers import customer_id_for
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.agreements import give_discount
from invoicing.prices.files import fly_document, seed_prices
from invoicing.subscriptions import subscribe
from invoicing.usage.intake import UsageRecord, post_usage
from ledger import accounts
from tests.browser import assert_usable
from tests.invoicing.taxed import load, profile, rates_file
from tests.panel.conftest import Site, at

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
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


def _opened(browser: Browser, site: Site, address: str, complaints: list[str]) -> Page:
    """The panel as it opens from the platform, in a window that notes whatever the browser complains about."""
    # Without motion: a colour on its way to another has no contrast to judge.
    page = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce").new_page()
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


@pytest.fixture
def much(site: Site) -> list[str]:
    """Everything that a customer can have: a discount, a plan, tax, credit of three kinds, refills; and its pages."""
    customer_id = customer_id_for("acme")
    with Session(site.engine) as session, session.begin():
        seed_prices(session, actor="test", now=site.now)
        publish_plans(session, plans_from_file(fly_document()), actor="test", now=at("2026-01-01"))
        subscribe(session, customer_id=customer_id, plan="launch", reason="x", actor="ada", now=at("2026-11-02"))
        give_discount(
            session, customer_id=customer_id, percent=Decimal("12.5"), valid_from=at("2026-11-10"), valid_until=None,
            reason="x", actor="ada", now=site.now,
        )  # fmt: skip
        for number, account in enumerate((accounts.CREDITS_GOODWILL, accounts.CREDITS_PROMOTIONAL)):
            grant_credit(
                session, customer_id=customer_id, grant_id=UUID(int=number), account=account, amount=Decimal(25),
                reason="x", actor="ada", expires_at=site.now + timedelta(days=5 + 30 * number), now=site.now,
            )  # fmt: skip
        set_refill(
            session, customer_id=customer_id, threshold=Decimal(10), amount=Decimal(50), provider=site.provider,
            actor="ada", now=site.now,
        )  # fmt: skip
        bought = top_up(
            session, customer_id=customer_id, top_up_id=UUID(int=9), amount=Decimal(50), provider=site.provider,
            actor="ada", now=site.now,
        )  # fmt: skip
        bought_id = bought.id
        used = UsageRecord(
            row=1, event_id="1", customer="acme", item="volume", quantity=Decimal(100), effective_at=at("2026-11-12")
        )
        post_usage(session, [used], source="test", actor="test", now=site.now)
    load(site.engine, rates_file(("DE", "VAT", "19")))
    profile(site.engine, "acme", "DE", now=at("2026-11-02"))
    invoice = f"/billing/invoices/{site.invoice_id('acme', '2026-10')}"
    return ["/billing/?by=app", "/billing/prices", "/billing/credit", "/billing/invoices", invoice,
            f"/billing/invoices/{bought_id}", "/billing/"]  # fmt: skip


@pytest.mark.usefixtures("acme")
def test_every_page_fits_and_is_accessible(browser: Browser, site: Site, address: str, much: list[str]) -> None:
    complaints: list[str] = []
    page = _opened(browser, site, address, complaints)

    def judge(name: str) -> None:
        for summary in page.locator("main details > summary").all():
            summary.click()
        assert complaints == [], name
        assert_usable(page, name)
        complaints.clear()  # the checker itself tries inline styles, which our policy refuses

    for path in much:
        page.goto(address + path)
        judge(path)
        if path.startswith("/billing/invoices/") and page.locator("main tbody a").count():
            page.locator("main tbody a").first.click()
            judge("a line")
    page.locator("main tbody a", has_text="Volume").first.click()
    judge("a row of this period")
    page.goto(f"{address}/billing/credit")
    page.fill("#amount", "12,50")
    page.click("text=Buy credit")
    complaints.clear()  # Chromium reports the status of a refusal as an error
    assert page.input_value("#amount") == "12,50"
    judge("a form that was refused")


@pytest.mark.usefixtures("acme")
def test_without_scripts_one_click_opens_the_panel(browser: Browser, site: Site, address: str) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{address}/billing/open/{site.token('acme')}")
    page.click("button")
    page.click("text=By app")
    assert page.locator("th", has_text="web").count() == 1
