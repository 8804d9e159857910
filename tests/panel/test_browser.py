"""The panel in a real browser: it opens by itself, refreshes itself, and can be used by everybody."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy.orm import Session

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
from tests.browser import NO_BROWSER, Complaints, assert_usable, executable, launched
from tests.invoicing.taxed import load, profile, rates_file
from tests.panel.conftest import Site, at
from tests.serving import served

pytestmark = pytest.mark.browser

POLL_S = 15


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip(NO_BROWSER)
    with launched(path) as browser:
        yield browser


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """Where the site answers."""
    with served(site.app) as port:
        yield f"http://127.0.0.1:{port}"


def _opened(browser: Browser, site: Site, address: str) -> tuple[Page, Complaints]:
    """The panel as it opens from the platform."""
    # Without motion: a colour on its way to another has no contrast to judge.
    page = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce").new_page()
    complaints = Complaints(page)
    page.goto(f"{address}/billing/open/{site.token('acme')}")
    page.wait_for_url(f"{address}/billing/")
    return page, complaints


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
    page, complaints = _opened(browser, site, address)
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
    complaints.assert_none()


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
    opened, complaints = _opened(browser, site, address)
    complaints.assert_none("the first page")

    @contextmanager
    def judged(name: str) -> Iterator[Page]:
        page = opened.context.new_page()
        complaints = Complaints(page)
        yield page
        for summary in page.locator("main details > summary").all():
            summary.click()
        complaints.assert_none(name)
        assert_usable(page, name)
        page.close()

    for path in much:
        with judged(path) as page:
            page.goto(address + path)
            has_lines = path.startswith("/billing/invoices/") and page.locator("main tbody a").count()
        if has_lines:
            with judged(f"a line of {path}") as page:
                page.goto(address + path)
                page.locator("main tbody a").first.click()
    with judged("a row of this period") as page:
        page.goto(f"{address}/billing/")
        page.locator("main tbody a", has_text="Volume").first.click()
    with judged("a form that was refused") as page:
        page.goto(f"{address}/billing/credit")
        page.fill("#amount", "12,50")
        page.click("text=Buy credit")
        assert page.input_value("#amount") == "12,50"


@pytest.mark.usefixtures("acme")
def test_without_scripts_one_click_opens_the_panel(browser: Browser, site: Site, address: str) -> None:
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{address}/billing/open/{site.token('acme')}")
    page.click("button")
    page.click("text=By app")
    assert page.locator("th", has_text="web").count() == 1
