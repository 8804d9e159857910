"""The pages in a real browser: its JavaScript, its keyboard, its idea of our policy, and axe's of accessibility."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from invoicing.credit.refills import set_refill
from invoicing.movements.requests import request_movement
from invoicing.movements.tasks import open_task
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.agreements import give_discount
from invoicing.prices.changes import draft_change
from invoicing.prices.files import fly_document, parse_document, read_prices
from invoicing.subscriptions import subscribe
from ledger import accounts
from tests.browser import BOTH_WIDTHS, NO_BROWSER, Complaints, assert_usable, executable, launched
from tests.invoicing.taxed import profile
from tests.serving import served
from tests.support_ui.conftest import PASSWORD, Draft, Site, at
from tests.support_ui.final import Final, final
from tests.support_ui.test_bank import line
from tests.support_ui.test_money import payout

pytestmark = pytest.mark.browser

LONG_NAME = "A company with a name that is longer than anybody would want to print on an envelope"
DEARER = """
currency = "USD"
valid_from = 2099-01-01T00:00:00Z
[[items]]
code = "machine"
name = "Machine"
unit = "second"
unit_amount = 0.0000025
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip(NO_BROWSER)
    with launched(path) as browser:
        yield browser


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """The site, served on a free loopback port."""
    with served(site.app) as port:
        yield f"http://127.0.0.1:{port}"


def sign_in(page: Page, address: str, email: str = "approver@demo.test") -> None:
    page.goto(f"{address}/support/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What needs a person")).to_be_visible()


def test_an_agents_day_without_a_page_load(chromium: Browser, address: str, site: Site) -> None:
    draft = site.draft()
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        complaints = Complaints(page)
        sign_in(page, address)
        page.keyboard.press("/")
        page.keyboard.type("northw")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Northwind").click()
        page.get_by_role("link", name="June 2025").click()
        page.wait_for_load_state()
        loads: list[str] = []

        def note_load(loaded: Page) -> None:
            loads.append(loaded.url)

        page.on("load", note_load)

        why = page.get_by_role("link", name="Why: Machine")
        why.click()
        expect(page.get_by_text("exactly this line")).to_be_visible()
        why.click()
        expect(page.get_by_text("exactly this line")).to_be_hidden()
        why.click()
        expect(page.get_by_text("exactly this line")).to_be_visible()

        page.get_by_text("Credit part of this line").click()
        credit = page.locator("form", has_text="At most 22 USD are left")
        credit.get_by_label("Amount in USD").fill("23")
        credit.get_by_label("Why").fill("Outage in June")
        credit.get_by_role("button", name="Credit").click()
        expect(page.get_by_text("22 USD are left of this line; 23 cannot be credited.")).to_be_visible()
        expect(credit.get_by_label("Why")).to_have_value("Outage in June")
        credit.get_by_label("Amount in USD").fill("2")
        credit.get_by_role("button", name="Credit").click()
        expect(page.get_by_text("The line is credited.")).to_be_focused()

        page.get_by_text("Finalize now").click()
        page.get_by_role("button", name="Finalize").click()
        expect(page.get_by_role("heading", name="Invoice ")).to_be_visible()
        assert loads == []
        complaints.assert_none()
    assert draft.view.invoice.total == 20


def test_a_session_that_ended_leads_to_the_sign_in_page_not_into_a_table(
    chromium: Browser, address: str, site: Site
) -> None:
    draft = site.draft()
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, address)
        page.goto(address + draft.url)
        context.clear_cookies()
        page.get_by_role("link", name="Why: Machine").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_refusal_that_is_no_fragment_is_shown_as_a_message(chromium: Browser, address: str, site: Site) -> None:
    draft = site.draft()
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, address)
        page.goto(address + draft.url)
        page.get_by_text("Hold", exact=True).click()
        form = page.locator("form", has_text="A held draft is not finalized")
        form.get_by_label("Why").fill("Let me look")
        form.locator("[name=csrf_token]").evaluate("field => field.value = 'another'")
        form.get_by_role("button").click()
        expect(page.get_by_role("alert")).to_contain_text("This was refused (400)")
        expect(form.get_by_label("Why")).to_have_value("Let me look")
    assert draft.view.invoice.held_at is None


def test_every_page_is_accessible_and_fits(chromium: Browser, address: str, site: Site) -> None:
    draft = site.draft(LONG_NAME)
    moved = much_happened(site)
    more = much_agreed(site, draft)
    with chromium.new_context() as signed_in, chromium.new_context() as stranger:
        sign_in(signed_in.new_page(), address, "admin@demo.test")
        for path in ["/support/sign-in", *visited(draft), *more, moved.url]:
            page = (stranger if path == "/support/sign-in" else signed_in).new_page()
            complaints = Complaints(page)
            page.goto(address + path)
            for summary in page.locator("main details > summary").all():
                summary.click()
            complaints.assert_none(path)
            assert_usable(page, path, windows=BOTH_WIDTHS)
            page.close()


def much_agreed(site: Site, draft: Draft) -> list[str]:
    """A plan, credit, tax, an agreement, a task and a price change that waits; the pages about them."""
    now = at("2025-07-06")
    customer_id = draft.customer_id
    billing = site.app.extensions["billing"]
    with Session(site.engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="ada", now=now)
        subscribe(session, customer_id=customer_id, plan="launch", reason="x", actor="ada", now=now)
        give_discount(
            session, customer_id=customer_id, percent=Decimal("12.5"), valid_from=at("2025-07-07"), valid_until=None,
            reason="Agreedonthetelephonewithsomebodywhowritesnospaces" * 3, actor="ada", now=now,
        )  # fmt: skip
        grant_credit(
            session, customer_id=customer_id, grant_id=uuid4(), account=accounts.CREDITS_PROMOTIONAL,
            amount=Decimal("123456.78"), reason="Agreedonthetelephone" * 9, actor="ada",
            expires_at=at("2025-09-01"), now=now,
        )  # fmt: skip
        set_refill(
            session, customer_id=customer_id, threshold=Decimal(10), amount=Decimal(50), provider=billing.providers,
            actor="ada", now=now,
        )  # fmt: skip
        dearer = read_prices(parse_document(DEARER.encode()))
        change = draft_change(session, content=dearer, title="Dearer" * 20, actor="ada", now=now)
        task = open_task(
            session, kind="unknown_money", subject="stripe:txn_1QxYz0123456789abcdefABCDEFGH", title="Money of nobody",
            text="It waits." * 90, cause="reconciliation", now=now, details={"cure": "Open it at Stripe. " * 20},
        )  # fmt: skip
        paths = [f"/support/prices/changes/{change.id}", f"/support/tasks/{task.id}"]
    profile(site.engine, f"org-{LONG_NAME}", "DE", now=now)
    return ["/support/prices", f"/support/customers/{customer_id}/tax", *paths]


def much_happened(site: Site) -> Final:
    """A large invoice of a long name with some of everything that comes later, and bank lines with long references."""
    moved = final(site, "The Worshipful Company of Extraordinarily Long-winded Nameholders and Their Successors plc")
    moved.pay("9876543.21", "inpay_1QxYz0123456789abcdefABCDEFGHIJKLMNOP")
    moved.pay("22222.22", "NTRF 0123456789 0123456789 0123456789", provider="manual")
    billing = site.app.extensions["billing"]
    for kind, amount, options in (
        ("credit_note", "5.50", {"paid_part": "refund"}),
        ("credit_note", "7.25", {"paid_part": "keep"}),
        ("refund_unapplied", "20000", {}),
        ("refund_unapplied", "12.34", {}),
    ):
        with Session(site.engine) as session, session.begin():
            request_movement(
                session,
                customer_id=moved.customer_id,
                invoice_id=moved.invoice_id,
                movement_id=uuid4(),
                kind=kind,
                amount=Decimal(amount),
                options=options,
                reason="Agreedonthetelephonewithsomebodywhowritesnospaces" * 3,
                actor="somebody.with.a.very.long.address@subsidiary.of.the.company.example.test",
                provider=billing.providers,
                settings=billing.settings,
                now=at("2025-07-06"),
            )
    moved.dispute(payment="inpay_1QxYz0123456789abcdefABCDEFGHIJKLMNOP")
    line(site, "9999999.99", reference="REFERENCE" * 15, payer="A payer with a long name " * 4)
    line(site, "-9.90", reference="fee")
    payout(site, "po_1QxYz0123456789abcdefABCDEFGH", "2025-07-08")
    return moved


def visited(draft: Draft) -> list[str]:
    customer = f"/support/customers/{draft.customer_id}"
    return [
        "/support/",
        "/support/customers?q=a",
        customer,
        f"{customer}/journal",
        f"{customer}/entries/{draft.entry_id}",
        f"{customer}/accounts/assets:unbilled?since=",
        f"{customer}/time_machine",
        f"{customer}/time_machine?day=2025-03-03&before=2025-06-12",
        f"{customer}/time_machine?day=2025-02-30&time=25:00",
        draft.url,
        draft.line_url,
        "/support/drafts",
        "/support/webhooks",
        "/support/collection",
        "/support/bank",
        "/support/bank?state=settled",
        "/support/disputes",
        "/support/disputes?state=closed",
        "/support/payouts",
        "/support/tasks",
        "/support/users",
        "/support/account",
    ]


def in_sight(found: Locator) -> bool:
    """Whether it lies between the edges of a phone's window, without scrolling sideways."""
    box = found.bounding_box()
    return box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390


def test_on_a_phone_every_amount_is_in_sight_and_so_is_where_we_are(
    chromium: Browser, address: str, site: Site
) -> None:
    invoice = much_happened(site)
    with chromium.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        sign_in(page, address)
        for path in (invoice.url, "/support/disputes", "/support/payouts", "/support/"):
            page.goto(address + path)
            amounts = page.locator("table.rows .key .money").all()
            assert amounts or path in ("/support/", "/support/payouts"), path
            for amount in amounts:
                assert in_sight(amount), (path, amount.inner_text())
        page.goto(f"{address}/support/disputes")
        here = page.get_by_role("navigation", name="Main").get_by_role("link", name="Money")
        assert in_sight(here), "where we are"


def test_forms_work_without_javascript(chromium: Browser, address: str, site: Site) -> None:
    draft = site.draft()
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, address)
        page.goto(address + draft.url)
        page.get_by_role("link", name="Why: Machine").click()
        page.get_by_text("Waive this line").click()
        form = page.locator("form", has_text="Takes off all that is left")
        form.get_by_label("Why").fill("Outage")
        form.get_by_role("button", name="Waive 22.00 USD").click()
        expect(page.get_by_text("The line is waived.")).to_be_visible()
    assert draft.view.exact_total == 0


def test_the_skip_link_is_the_first_thing_that_tab_finds(chromium: Browser, address: str, site: Site) -> None:
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, address)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()


def test_a_credit_note_is_announced_and_issued_without_javascript(chromium: Browser, address: str, site: Site) -> None:
    invoice = final(site)
    invoice.pay("22")
    with chromium.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, address)
        page.goto(address + invoice.url)
        page.get_by_text("Credit note", exact=True).click()
        form = page.locator("form", has_text="What was paid of it")
        form.get_by_label("Amount in USD").fill("15.50")
        form.get_by_label("is kept as prepaid credit").check()
        form.get_by_label("Why").fill("Outage in June")
        form.get_by_role("button", name="Show what will happen").click()
        expect(page.get_by_text("15.50 USD that were paid become prepaid credit")).to_be_visible()
        assert invoice.movements == []
        page.get_by_role("button", name="Issue the credit note").click()
        expect(page.get_by_text("Begun. How far it is stands below.")).to_be_visible()
    assert [(movement.kind, movement.amount) for movement in invoice.movements] == [("credit_note", Decimal("15.50"))]


def test_what_will_happen_is_focused_when_it_is_shown_in_place(chromium: Browser, address: str, site: Site) -> None:
    invoice = final(site)
    with chromium.new_context() as context:
        page = context.new_page()
        complaints = Complaints(page)
        sign_in(page, address)
        page.goto(address + invoice.url)
        page.get_by_text("Credit note", exact=True).click()
        form = page.locator("form", has_text="What is open is taken off first")
        form.get_by_label("Amount in USD").fill("2")
        form.get_by_label("Why").fill("Outage in June")
        form.get_by_role("button", name="Show what will happen").click()
        told = page.locator("[role=status]", has_text="This is what will happen")
        expect(told).to_be_focused()
        expect(told).to_contain_text("20.00 USD stay open.")
        page.get_by_role("button", name="Issue the credit note").click()
        expect(page.get_by_text("Begun. How far it is stands below.")).to_be_focused()
        complaints.assert_none()
    assert len(invoice.movements) == 1
