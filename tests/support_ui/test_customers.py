"""Finding a customer and reading how they stand."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.files import fly_document
from invoicing.tables import CreditGrant, Item
from ledger.balances import balance
from tests.support_ui.conftest import Desk, Page, Site

GOODWILL = "liabilities:credits:goodwill"


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


@pytest.mark.parametrize("query", ["north", "NORTHWIND", "ap@north", "org-Northw"])
def test_a_customer_is_found_by_part_of_name_email_or_external_id(site: Site, agent: Desk, query: str) -> None:
    site.customer("Northwind", email="ap@northwind.test")
    site.customer("Contoso")
    page = agent.page(f"/support/customers?q={query}")
    assert "Northwind" in page.text
    assert "Contoso" not in page.text
    fragment = Page(agent.get(f"/support/customers?q={query}", fragment=True).text)
    assert fragment.text in page.text


def test_a_customer_is_found_by_invoice_number_and_id(site: Site, agent: Desk) -> None:
    draft = site.draft("Northwind")
    site.customer("Contoso")
    agent.submit(draft.url, f"{draft.url}/finalization")
    for query in (str(draft.view.invoice.number).lower(), str(draft.customer_id)):
        page = agent.page(f"/support/customers?q={query}")
        assert "Northwind" in page.text
        assert "Contoso" not in page.text


def test_names_are_text_and_never_markup(site: Site, agent: Desk) -> None:
    name = "<script>alert(1)</script> & \"Sons\" 'Ltd' %_\\"
    customer = site.customer(name)
    assert name in agent.page(f"/support/customers/{customer}").text
    assert "Nobody matches “<b>”" in agent.page("/support/customers?q=<b>").text
    assert name in agent.page("/support/customers?q=%25_\\").text


def test_the_customer_page_says_what_is_owed_and_why(site: Site, agent: Desk) -> None:
    draft = site.draft("Northwind")
    page = agent.page(f"/support/customers/{draft.customer_id}")
    assert "Used, not yet invoiced 22.00 USD" in page.text
    assert "Nothing was used yet in this period." in page.text
    agent.submit(draft.url, f"{draft.url}/finalization")
    page = agent.page(f"/support/customers/{draft.customer_id}")
    assert "Open invoices 22.00 USD" in page.text
    assert "June 2025" in page.text
    assert str(draft.view.invoice.number) in page.text


def test_a_period_that_is_over_and_not_closed_is_told_apart(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    site.use("Northwind", "2025-06-10", "1234567")
    page = agent.page(f"/support/customers/{customer}")
    assert "June 2025: 2.7160474 USD ended" in page.text


def test_goodwill_credit_is_granted_once_however_often_the_button_is_pressed(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    url = f"/support/customers/{customer}"
    form = agent.page(url).form(f"{url}/credits")
    page = agent.follow(agent.send(form, amount="12.50", reason="Outage in June"))
    assert "The credit is granted." in page.text
    assert "Goodwill credit 12.50 USD 12.50 USD no end everything agent@demo.test: Outage in June" in page.text
    page = agent.follow(agent.send(form, amount="12.50", reason="Outage in June"))
    assert "it was not granted twice" in page.text
    with Session(site.engine) as session:
        assert balance(session, customer_id=customer, account=GOODWILL) == Decimal("12.50")
    answer = agent.send(form, amount="13", reason="Outage in June")
    assert answer.status_code == 422
    assert "granted before with other details" in Page(answer.text).text


def test_a_credit_with_an_end_for_one_item_is_shown_and_taken_back(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    site.use("Northwind", "2025-06-10", "1")
    with Session(site.engine) as session:
        item = session.scalars(select(Item.code).order_by(Item.code)).first()
    assert item is not None
    url = f"/support/customers/{customer}"
    form = agent.page(url).form(f"{url}/credits")
    bad = agent.send(form, amount="5", reason="Sorry", items="no-such-item", last_day="2099-12-31", priority="7")
    assert (bad.status_code, "There is no item &#39;no-such-item&#39;" in bad.text) == (422, True)
    agent.follow(agent.send(form, amount="5", reason="Sorry", items=item, last_day="2099-12-31", priority="7"))
    with Session(site.engine) as session:
        credit = session.scalars(select(CreditGrant)).one()
    assert (credit.items, credit.priority) == ([item], 7)
    assert credit.expires_at == datetime(2100, 1, 1, tzinfo=UTC)
    form = agent.page(url).form(f"{url}/credits/{credit.id}/revocation")
    page = agent.follow(agent.send(form, reason="Granted by mistake"))
    assert "5 of the credit are taken back." in page.text
    with Session(site.engine) as session:
        assert balance(session, customer_id=customer, account=GOODWILL) == 0


def test_prepaid_credit_is_sold_once_and_its_invoice_opens(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    url = f"/support/customers/{customer}"
    form = agent.page(url).form(f"{url}/top-ups")
    first, again = agent.send(form, amount="50"), agent.send(form, amount="50")
    assert (first.status_code, first.location) == (303, again.location)
    assert "Prepaid credit" in agent.follow(first).text
    assert "not paid" in agent.page(url).text


def test_a_bad_credit_keeps_what_was_typed(site: Site, agent: Desk) -> None:
    url = f"/support/customers/{site.customer('Northwind')}"
    form = agent.page(url).form(f"{url}/credits")
    typed = {"amount": "12.505", "reason": "Outage", "account": "liabilities:credits:promotional"}
    for fragment in (False, True):
        answer = agent.send(form, fragment, **typed)
        assert answer.status_code == 422
        page = Page(answer.text)
        assert "at most 2 decimals in USD" in page.text
        again = page.form(f"{url}/credits")
        assert {name: again.fields[name] for name in typed} == typed
        assert again.fields["grant_id"] == form.fields["grant_id"]
    assert agent.send(form, amount="1", reason="x", account="liabilities:credits:prepaid").status_code == 422


def test_the_journal_is_paged_without_gaps_and_narrowed(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    for index in range(205):
        site.use("Northwind", "2025-06-10" if index % 2 else "2025-05-10", str(index + 1))
    url: str | None = f"/support/customers/{customer}/journal"
    seen: list[str] = []
    while url:
        page = agent.page(url)
        seen += page.html.split('aria-label="Entry ')[1:]
        url = next((link for link in page.links if "before=" in link), None)
    assert [int(text.split('"')[0]) for text in seen] == list(range(205, 0, -1))
    narrowed = agent.page(f"/support/customers/{customer}/journal?period=2025-05-01T00:00:00%2B00:00&item=machine")
    assert narrowed.html.count('aria-label="Entry ') == 100
    assert "10 Jun 2025" not in narrowed.text
    assert "No such entry." in agent.page(f"/support/customers/{customer}/journal?item=disk").text
    assert agent.page(f"/support/customers/{customer}/journal?period=nonsense&before=x").html.count("<tr>") > 100


def test_a_customer_is_billed_before_the_period_ends_and_the_draft_opens(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    url = f"/support/customers/{customer}"
    site.use("Northwind", datetime.now(UTC).date().isoformat(), "10000000")
    form = agent.page(url).form(f"{url}/early-bill")
    answer = agent.send(form, cause="leaving", reason="Leaves for good")
    page = agent.follow(answer)
    assert "The period is closed." in page.text
    assert "Leaves for good" in page.text
    assert "the customer leaves agent@demo.test: Leaves for good" in agent.page(url).text
    again = agent.send(form, cause="leaving", reason="Leaves for good")
    assert again.headers["Location"] == answer.headers["Location"], "a double click opens the same draft"


def test_a_spending_threshold_is_set_refused_and_lifted(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    url = f"/support/customers/{customer}"
    form = agent.page(url).form(f"{url}/spending-threshold")
    assert (
        "Billed at once from 500.00 USD unbilled on" in agent.follow(agent.send(form, amount="500", reason="New")).text
    )
    assert "with at most 2 decimals" in agent.follow(agent.send(form, amount="0.001", reason="New")).text
    assert "Billed at once from 500.00 USD" in agent.page(url).text
    assert "No spending threshold." in agent.follow(agent.send(form, amount="", reason="Known by now")).text


def test_staff_give_change_keep_and_end_a_plan(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    with Session(site.engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="test", now=datetime.now(UTC))
    url = f"/support/customers/{customer}"
    form = agent.page(url).form(f"{url}/plan")
    page = agent.follow(agent.send(form, plan="launch month", when="now", reason="Signed up"))
    assert "Plan: Launch" in page.text
    form = page.form(f"{url}/plan")
    page = agent.follow(agent.send(form, plan="scale month", when="period_end", reason="Grows"))
    assert "The plan will change." in page.text
    page = agent.follow(agent.send(page.form(f"{url}/plan/keep")))
    assert "The plan goes on." in page.text
    page = agent.follow(agent.send(page.form(f"{url}/plan/end"), when="now", reason="Leaves"))
    assert "The plan has ended" in page.text
    assert "None: pays for usage only." in page.text
