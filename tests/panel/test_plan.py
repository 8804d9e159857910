"""A customer's plan in the panel: what it costs, and what of the included usage is left."""

from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.files import fly_document
from invoicing.subscriptions import change_at_end, subscribe
from invoicing.usage.intake import UsageRecord, post_usage
from tests.panel.conftest import Site, at


def test_the_plan_and_what_is_left_of_it_stand_on_the_first_page(site: Site) -> None:
    """Launch: 29 a month with 29 of usage; 10 are used. What is estimated is this month's fee and the next one's."""
    site.customer("acme")
    used = UsageRecord(
        row=1, event_id="1", customer="acme", item="machine", quantity=Decimal(1), effective_at=at("2026-11-05"),
        amount=Decimal(10),
    )  # fmt: skip
    with Session(site.engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="test", now=at("2026-01-01"))
        subscribe(
            session, customer_id=customer_id_for("acme"), plan="launch", reason="x", actor="ada", now=at("2026-11-01")
        )
        post_usage(session, [used], source="test", actor="test", now=at("2026-11-06"))
    site.open("acme")
    text = site.text("/billing/")
    assert "Your plan: Launch $29.00 a month" in text
    assert "Usage included this month: $10.00 of $29.00 used." in text
    assert "Total so far $29.00" in text
    assert "about $58.00" in text
    assert "The fee of the next month, $29.00 , is added to this invoice" in text


def test_what_is_used_of_a_plan_is_the_same_cent_wherever_it_stands(site: Site) -> None:
    """3.275 are used: rounded by itself 3.28, and 3.27 where the page's cents add up."""
    site.customer("acme")
    used = [
        UsageRecord(
            row=row, event_id=str(row), customer="acme", item=item, quantity=Decimal(1), amount=Decimal(amount),
            effective_at=at("2026-11-05"),
        )
        for row, (item, amount) in enumerate([("machine", "2.1945"), ("volume", "1.0805")])
    ]  # fmt: skip
    with Session(site.engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="test", now=at("2026-01-01"))
        subscribe(
            session, customer_id=customer_id_for("acme"), plan="launch", reason="x", actor="ada", now=at("2026-11-01")
        )
        post_usage(session, used, source="test", actor="test", now=at("2026-11-06"))
    site.open("acme")
    text = site.text("/billing/")
    assert "−$3.27" in text
    assert "Usage included this month: $3.27 of $29.00 used." in text


def test_a_plan_that_ends_with_the_month_adds_no_further_fee(site: Site) -> None:
    site.customer("acme")
    with Session(site.engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="test", now=at("2026-01-01"))
        customer = customer_id_for("acme")
        subscribe(session, customer_id=customer, plan="launch", reason="x", actor="ada", now=at("2026-11-01"))
        change_at_end(session, customer_id=customer, plan=None, reason="x", actor="ada", now=at("2026-11-02"))
    site.open("acme")
    text = site.text("/billing/")
    assert "is added to this invoice" not in text
    assert "Ends Dec 1, 2026" in text


def test_without_a_plan_none_is_shown(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    assert "Your plan" not in site.text("/billing/")
