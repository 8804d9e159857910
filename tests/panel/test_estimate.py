"""The estimate of the month has the fees that are known to come: a trial that ends, a plan that changes."""

from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.subscriptions import change_at_end, subscribe
from invoicing.usage.intake import UsageRecord, post_usage
from tests.panel.conftest import Site, at

PLAN = {
    "code": "try", "name": "Try", "currency": "USD", "fee": 30, "interval": "month", "timing": "advance",
    "included_usage": 0, "trial_days": 25,
}  # fmt: skip
PLANS = {"plans": [PLAN, {**PLAN, "code": "big", "name": "Big", "fee": 300, "trial_days": 0}]}


def begun(site: Site, *, then: str | None = None) -> str:
    """A trial from the 1st to the 26th of November, 10 used by the 6th; the first page's text."""
    site.customer("acme")
    used = UsageRecord(
        row=1, event_id="1", customer="acme", item="machine", quantity=Decimal(1), effective_at=at("2026-11-05"),
        amount=Decimal(10),
    )  # fmt: skip
    key = customer_id_for("acme")
    with Session(site.engine) as session, session.begin():
        publish_plans(session, plans_from_file(PLANS), actor="test", now=at("2026-01-01"))
        subscribe(session, customer_id=key, plan="try", reason="x", actor="ada", now=at("2026-11-01"))
        if then:
            change_at_end(session, customer_id=key, plan=then, reason="x", actor="ada", now=at("2026-11-02"))
        post_usage(session, [used], source="test", actor="test", now=at("2026-11-06"))
    site.open("acme")
    return site.text("/billing/")


def amount(text: str) -> Decimal:
    return Decimal(text.split("about $")[1].split()[0].replace(",", ""))


def test_a_trial_that_ends_this_month_is_in_the_estimate_and_said(site: Site) -> None:
    """5 of 30 days of a month cost 5, and December's 30 are on this invoice as well."""
    text = begun(site)
    assert "The fee of Try from Nov 26, 2026" in text
    assert "$5.00 , is added to this invoice then" in text
    assert "The fee of the next month, $30.00 , is added to this invoice when it is made" in text
    usage = amount(text) - 35
    assert 10 < usage < 100


def test_the_plan_that_follows_a_trial_is_in_the_estimate_and_named(site: Site) -> None:
    text = begun(site, then="big")
    assert "The fee of Big from Nov 26, 2026" in text
    assert "The fee of Big, which follows, $300.00" in text
    assert 10 < amount(text) - 350 < 100
