"""Why a line is what it is, as staff see it: the price, the tax, the credit that paid, and the entries behind it."""

import re
from decimal import Decimal
from uuid import uuid4

import pytest
from flask import g
from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from ledger import accounts
from tests.invoicing.taxed import load, profile, rates_file
from tests.support_ui.conftest import Desk, Draft, Site, at


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def test_a_line_names_its_price_its_tax_and_the_credit_that_pays(site: Site, agent: Desk) -> None:
    """22 USD and 4.18 of tax on top: the promotional credit pays first, since its number is lower."""
    load(site.engine, rates_file(("DE", "VAT", "19")))
    site.customer("Northwind")
    profile(site.engine, "org-Northwind", "DE")
    draft = site.draft("Northwind")
    granted(site, draft, "5", accounts.CREDITS_GOODWILL, priority=100)
    granted(site, draft, "2", accounts.CREDITS_PROMOTIONAL, priority=10)
    said = (
        "0.0000022 USD per second (public price, valid from 2020-01-01 00:00 UTC, published by test)",
        "10000000 x 0.0000022",
        "of 22.00 USD without tax, on top; 4.18 is this line's share of the 4.18",
        "5.00 USD of goodwill credit (over 5.00 from 2025-06-01 00:00 UTC, priority 100, never expires)",
        "Why in this order The lowest priority number pays first",
    )
    page = agent.page(draft.line_url)
    for words in said:
        assert words in page.text
    assert page.text.index("2.00 USD of promotional") < page.text.index("5.00 USD of goodwill")
    agent.submit(draft.url, f"{draft.url}/finalization")
    page = agent.page(draft.line_url)
    for words in said:
        assert words in page.text
    assert page.text.index("2.00 USD of promotional") < page.text.index("5.00 USD of goodwill")


def granted(site: Site, draft: Draft, amount: str, account: str, *, priority: int) -> None:
    with Session(site.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=draft.customer_id,
            grant_id=uuid4(),
            account=account,
            amount=Decimal(amount),
            reason="agreed",
            actor="test",
            priority=priority,
            now=at("2025-06-01"),
        )


def test_a_line_leads_to_its_entries_and_no_others(site: Site, agent: Desk) -> None:
    draft = site.draft()
    site.use("Northwind", "2025-07-10", "5")
    page = agent.page(draft.line_url)
    (link,) = (link for link in page.links if "/journal?" in link and "price=" in link)
    journal = agent.page(link)
    assert len([link for link in journal.links if re.search(r"/entries/", link)]) == 1
    assert "Only entries at the price" in journal.text


def test_a_correction_and_a_line_that_bears_no_tax_are_explained(site: Site, agent: Desk) -> None:
    draft = site.draft()
    agent.submit(
        draft.url, f"{draft.url}/adjustments", {"kind": "charge"}, amount="3", description="Setup", reason="Agreed"
    )
    correction = next(line for line in draft.view.lines if line.adjustment_id)
    page = agent.page(f"{draft.url}/lines/{correction.id}")
    assert "No place of taxation was known at the end of the period" in page.text
    assert "All lines come to 25 USD exactly and 25.00 rounded" in page.text


def test_a_row_of_the_period_so_far_is_explained_behind_its_amount(site: Site) -> None:
    @site.app.before_request
    def set_the_clock() -> None:
        g.now = at("2025-06-20")

    agent = site.desk("agent@demo.test")
    customer_id = site.customer("Northwind")
    site.use("Northwind", "2025-06-10", "10000000")
    (link,) = (link for link in agent.page(f"/support/customers/{customer_id}").links if "/current/" in link)
    page = agent.page(link)
    assert "Machine, so far" in page.text
    assert "10000000 x 0.0000022" in page.text
    assert agent.get(f"/support/customers/{customer_id}/current/{uuid4()}").status_code == 404
