"""Why a line is what it is, as a customer sees it: tiers, late usage, a cut period, a plan, tax; and nobody's name."""

import re
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.early_bills import bill_now
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.changes import load_content
from invoicing.prices.files import fly_document, parse_document, read_prices
from invoicing.settings import Settings
from invoicing.subscriptions import subscribe
from invoicing.usage.intake import UsageRecord, post_usage
from tests.invoicing.taxed import load, profile, rates_file
from tests.panel.conftest import Site, at

PRICES = """
currency = "USD"
valid_from = 2020-01-01T00:00:00Z
[[items]]
code = "egress"
name = "Egress"
unit = "GB"
[[items.prices]]
model = "graduated"
tiers = [{ first = 0, unit_amount = 2 }, { first = 10, unit_amount = 1 }]
"""


def use(site: Site, quantity: str, when: str, *, recorded: str | None = None) -> None:
    record = UsageRecord(
        row=1, event_id=f"{when} {quantity}", customer="acme", item="egress", quantity=Decimal(quantity),
        effective_at=at(when), labels={"app": "web", "region": "ams"},
    )  # fmt: skip
    with Session(site.engine) as session, session.begin():
        post_usage(session, [record], source="test", actor="grace", now=at(recorded or when))


@pytest.fixture
def acme(site: Site) -> Site:
    """The panel of acme, whose egress costs 2 a unit up to 10 and 1 beyond; the price was published by ada."""
    site.customer("acme")
    with Session(site.engine) as session, session.begin():
        content = read_prices(parse_document(PRICES.encode()))
        load_content(session, content=content, title="prices", publish=True, actor="ada", now=at("2026-01-01"))
    site.open("acme")
    return site


def follow(site: Site, path: str, name: str) -> str:
    """The words of the page behind the link of this name."""
    found = re.search(rf'<a href="([^"]+)">{re.escape(name)}</a>', site.get(path))
    assert found, f"no link {name!r}"
    return site.text(found.group(1))


def test_a_row_of_this_period_leads_to_its_tiers(acme: Site) -> None:
    use(acme, "15", "2026-11-05")
    text = follow(acme, "/billing/", "Egress")
    assert "Amount so far $25.00" in text
    assert "up to 10: at 2 each 10 x 2 10 x 2 20" in text
    assert "above 10: at 1 each 5 x 1 5 x 1 5" in text
    assert "15 GB came to 25 USD, all on this line." in text
    assert "ada" not in text
    assert "grace" not in text


def test_after_an_early_bill_the_row_says_what_of_the_tiers_was_billed(acme: Site) -> None:
    use(acme, "12", "2026-11-05")
    with Session(acme.engine) as session, session.begin():
        bill_now(
            session, customer_id=customer_id_for("acme"), cause="early", reason="asked", actor="ada",
            settings=Settings(), now=at("2026-11-10"),
        )  # fmt: skip
    use(acme, "3", "2026-11-12")
    text = follow(acme, "/billing/", "Egress")
    assert "Together 25" in text
    assert "Less the draft for the period from 2026-11-01 00:00 UTC -22" in text
    assert "This line, exactly 3" in text


def test_a_line_of_an_invoice_says_its_price_its_share_and_its_tax(acme: Site) -> None:
    load(acme.engine, rates_file(("DE", "VAT", "19")))
    profile(acme.engine, "acme", "DE", now=at("2026-01-02"))
    use(acme, "15", "2026-10-05")
    acme.close("2026-11-01")
    invoice_id = acme.invoice_id("acme", "2026-10")
    draft = follow(acme, f"/billing/invoices/{invoice_id}", "Egress")
    acme.finalize("acme", "2026-10", on="2026-11-02")
    for text in (draft, follow(acme, f"/billing/invoices/{invoice_id}", "Egress")):
        assert "0 to 10: 2 USD per GB; above 10: 1 USD per GB (public price, valid from 2020-01-01" in text
        assert "All lines come to 25 USD exactly and 25.00 rounded." in text
        assert "of 25.00 USD without tax, on top; 4.75 is this line's share of the 4.75" in text.replace("&#39;", "'")
        assert "ada" not in text


def test_a_plan_says_what_was_charged_and_what_it_gives_back(acme: Site) -> None:
    with Session(acme.engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="ada", now=at("2026-01-01"))
        subscribe(
            session, customer_id=customer_id_for("acme"), plan="launch", reason="secret", actor="ada",
            now=at("2026-11-16"),
        )  # fmt: skip
    use(acme, "3", "2026-11-16")
    fee = follow(acme, "/billing/", "Launch plan")
    assert "29 USD a month, charged in advance, with usage of 29 USD a month" in fee
    assert "of 2592000 seconds of a fee of 29" in fee
    back = follow(acme, "/billing/", "Launch plan: usage included")
    assert "usage came to 6, all of it within what the plan includes: 14.5" in back
    for text in (fee, back):
        assert "secret" not in text
        assert "ada" not in text


def test_a_row_that_is_not_there_is_not_found(acme: Site) -> None:
    acme.text("/billing/current/6d1d7c0e-8f5b-5e0e-9a56-2c1b7d2f4a10", status=404)
