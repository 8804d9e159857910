"""What an operator's alarms read: figures that move when something stands still."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from stripe_gateway.catch_up import groups
from stripe_gateway.operations import set_balance_to_zero
from stripe_gateway.tables import StripeCursor, StripeCustomer, StripeOperation
from tests.support_ui.conftest import Site


def figures(site: Site) -> dict[str, float]:
    """What Prometheus would read."""
    lines = site.app.test_client().get("/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def catch_up_age_s(site: Site) -> float:
    return figures(site)["billing_catch_up_age_seconds"]


def test_the_age_of_the_catch_up_grows_until_every_group_of_events_was_read(site: Site) -> None:
    assert catch_up_age_s(site) == 0, "nobody stands at Stripe, so no event can be missing"
    now = datetime.now(UTC)
    customer = site.customer("Northwind")
    with Session(site.engine) as session, session.begin():
        began = now - timedelta(hours=5)
        session.add(StripeCustomer(customer_id=customer, intent="{}", next_attempt_at=began, created_at=began))
    assert 5 * 3600 <= catch_up_age_s(site) < 6 * 3600, "since the first customer: nothing was read yet"
    first, *others = groups()
    with Session(site.engine) as session, session.begin():
        session.add(StripeCursor(name=first, checked_at=now))
    assert catch_up_age_s(site) >= 5 * 3600, "the other groups were not read"
    with Session(site.engine) as session, session.begin():
        session.add_all(StripeCursor(name=name, checked_at=now - timedelta(hours=2)) for name in others)
        session.add(StripeCursor(name="events-of-old", checked_at=now - timedelta(days=90)))
    assert 2 * 3600 <= catch_up_age_s(site) < 3 * 3600, "as old as the oldest of those that are still read"
    with Session(site.engine) as session, session.begin():
        for row in session.scalars(select(StripeCursor)):
            row.checked_at = now + timedelta(minutes=1)
    assert catch_up_age_s(site) == 0, "a clock that is ahead is no negative age"


def test_operations_are_counted_by_state(site: Site) -> None:
    customer = site.customer("Northwind")
    now = datetime.now(UTC)
    with Session(site.engine) as session, session.begin():
        set_balance_to_zero(session, customer_id=customer, invoice_id=None, cause="over:in_1", now=now)
    assert figures(site)['billing_operations{state="due"}'] == 1
    with Session(site.engine) as session, session.begin():
        operation = session.scalars(select(StripeOperation)).one()
        operation.state, operation.last_code, operation.last_error = "parked", "stripe_waits", "It stands still."
    assert figures(site)['billing_operations{state="parked"}'] == 1
