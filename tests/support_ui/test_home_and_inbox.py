"""What needs a person, and the webhook inbox."""

import json
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.parking import park, parked
from invoicing.payments import record_payment_failure
from stripe_gateway.operations import set_balance_to_zero
from stripe_gateway.tables import StripeEvent, StripeOperation
from tests.support_ui.conftest import Desk, Site, at
from tests.support_ui.final import final


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def receive(site: Site, event_id: str, *, state: str, error: str | None = None, minute: int = 0) -> None:
    now = at("2025-07-01") + timedelta(minutes=minute)
    payload = {"id": event_id, "object": "event", "note": "<script>", "data": {"object": {"id": "in_1"}}}
    with Session(site.engine) as session, session.begin():
        session.add(
            StripeEvent(
                id=event_id,
                type="invoice_payment.paid",
                object_id="in_1",
                livemode=False,
                account=None,
                payload=json.dumps(payload),
                created_at=now,
                received_at=now,
                deliveries=2,
                state=state,
                attempts=3,
                next_attempt_at=now,
                handled_at=now if state in ("done", "ignored") else None,
                error=error,
            )
        )


def test_an_empty_site_has_nothing_to_do(agent: Desk) -> None:
    text = agent.page("/support/").text
    for said in (
        "No draft is held.",
        "Nothing is parked.",
        "Every webhook was handled.",
        "No open invoice has a failed",
    ):
        assert said in text
    assert "There are no customers yet." in agent.page("/support/customers").text
    assert "No such draft." in agent.page("/support/drafts").text
    assert "No webhook has arrived yet." in agent.page("/support/webhooks").text


def test_held_drafts_and_those_that_await_approval_or_are_due_are_listed(site: Site, agent: Desk) -> None:
    held, large, due = site.draft("Held"), site.draft("Large"), site.draft("Due")
    agent.submit(held.url, f"{held.url}/hold", reason="Unusual")
    charge = {"amount": "500", "description": "Support", "reason": "Agreed"}
    agent.submit(large.url, f"{large.url}/adjustments", {"kind": "charge"}, **charge)
    home = agent.page("/support/")
    assert "1 held drafts" in home.text
    assert "1 awaiting approval" in home.text
    assert "2 due within a day" in home.text
    for filter_, there, absent in (
        ("held", held, due),
        ("approval", large, held),
        ("soon", due, held),
        ("all", due, None),
        ("nonsense", held, None),
    ):
        links = agent.page(f"/support/drafts?show={filter_}").links
        assert there.url in links, filter_
        assert absent is None or absent.url not in links, filter_


def test_parked_work_is_released_from_the_home_page_and_the_customers(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    for subject in ("2025-05-01", "2025-06-01"):
        with Session(site.engine) as session, session.begin():
            error = ValueError("It does not add up")
            park(session, customer_id=customer, stage="close", subject=subject, error=error, now=at("2025-07-01"))
    path = f"/support/customers/{customer}/parked_releases"
    assert "It does not add up" in agent.page("/support/").text
    form = agent.page("/support/").form(path, subject="2025-05-01")
    assert "Released: the next run tries it again." in agent.follow(agent.send(form)).text
    assert "not parked any more" in agent.follow(agent.send(form)).text
    page = agent.follow(agent.submit(f"/support/customers/{customer}", path))
    assert "Northwind" in page.text
    with Session(site.engine) as session:
        assert parked(session) == []


def test_a_failed_payment_is_listed_once_with_its_latest_reason(site: Site, agent: Desk) -> None:
    draft = site.draft()
    agent.submit(draft.url, f"{draft.url}/finalization")
    for attempt, message in ((1, "Insufficient funds"), (2, "Card <declined>")):
        with Session(site.engine) as session, session.begin():
            record_payment_failure(
                session,
                customer_id=draft.customer_id,
                invoice_id=draft.invoice_id,
                provider="stripe",
                external_id=f"ch_{attempt}",
                attempt=attempt,
                code="card_declined",
                message=message,
                failed_at=at("2025-07-02") + timedelta(days=attempt),
                next_attempt_at=at("2025-07-09"),
            )
    text = agent.page("/support/").text
    assert "1 failed payments" in text
    assert "Card <declined>" in text
    assert "Insufficient funds" not in text
    page = agent.page(draft.url)
    assert "Failed, attempt 1: Insufficient funds" in page.text
    assert "The last payment failed on 4 Jul 2025" in page.text


def test_the_inbox_counts_filters_and_pages(site: Site, agent: Desk) -> None:
    for index in range(101):
        receive(site, f"evt_{index:03d}", state="done", minute=index)
    receive(site, "evt_bad", state="parked", error="No such invoice: <b>", minute=200)
    page = agent.page("/support/webhooks")
    assert "All 102" in page.text
    assert "Failed 1" in page.text
    [older] = [link for link in page.links if "before=" in link]
    assert "evt_000" not in page.text
    assert "evt_000" in agent.page(older).text
    page = agent.page("/support/webhooks?state=parked")
    assert "evt_bad" in page.text
    assert "No such invoice: <b>" in page.text
    assert "evt_100" not in page.text
    assert "evt_bad" in agent.page("/support/").text


def test_a_failed_event_is_run_again(site: Site, agent: Desk) -> None:
    receive(site, "evt_bad", state="parked", error="No such invoice")
    page = agent.page("/support/webhooks/evt_bad")
    assert '"note": "<script>"' in page.text
    assert "No such invoice" in page.text
    form = page.form("/support/webhooks/evt_bad/runs")
    page = agent.follow(agent.send(form))
    assert "The event is due again." in page.text
    assert not [form for form in page.forms if form.action.endswith("/runs")]
    with Session(site.engine) as session:
        event = session.get_one(StripeEvent, "evt_bad")
        assert (event.state, event.attempts) == ("pending", 0)


def test_an_event_that_is_done_is_not_run_again(site: Site, agent: Desk) -> None:
    receive(site, "evt_bad", state="parked", error="No such invoice")
    receive(site, "evt_done", state="done")
    form = agent.page("/support/webhooks/evt_bad").form("/support/webhooks/evt_bad/runs")
    form.action = "/support/webhooks/evt_done/runs"
    assert "handled already" in agent.follow(agent.send(form)).text


def stop(site: Site, movement_id: UUID, state: str, why: str) -> None:
    """An operation that stands still, or whose answer was lost."""
    with Session(site.engine) as session, session.begin():
        operation = session.scalars(select(StripeOperation).where(StripeOperation.id == movement_id)).one()
        operation.state, operation.last_code, operation.last_error = state, "stripe_waits", why


def test_what_stripe_did_not_do_is_on_the_first_page_and_tried_again_from_there(site: Site, agent: Desk) -> None:
    invoice = final(site)
    agent.follow(agent.send(invoice.form(agent, "void", then="rebill"), False, reason="Wrong company"))
    [movement] = invoice.movements
    assert "Stripe did, or is about to do, all that was asked of it." in agent.page("/support/").text
    stop(site, movement.id, "parked", "Stripe says that this invoice is <another> account's.")
    home = agent.page("/support/")
    assert "1 operation problems" in home.text
    assert "Stripe says that this invoice is <another> account's." in home.text
    assert f"{invoice.url}#since" in home.links
    path = f"/support/customers/{invoice.customer_id}/operations/{movement.id}/retry"
    after = agent.follow(agent.send(home.form(path)))
    assert "It is due now." in after.text
    assert "0 operation problems" in after.text
    with Session(site.engine) as session:
        assert session.scalars(select(StripeOperation.state)).one() == "due"
    assert "Order to be tried again" in agent.page(invoice.url).text, "who asked stands in the history"
    stop(site, movement.id, "unknown", "The connection was cut.")
    viewer = site.desk("viewer@demo.test").page("/support/")
    assert "Outcome unknown" in viewer.text
    assert path not in [form.action for form in viewer.forms]
    gone = home.form(path)
    gone.action = f"/support/customers/{invoice.customer_id}/operations/{uuid4()}/retry"
    assert "Nothing was asked of Stripe under this id." in agent.follow(agent.send(gone)).text


def test_the_balance_that_no_page_of_an_invoice_shows_can_be_tried_again_too(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    with Session(site.engine) as session, session.begin():
        asked = set_balance_to_zero(
            session, customer_id=customer, invoice_id=None, cause="over:in_1", now=at("2025-07-01")
        )
    stop(site, asked, "parked", "Stripe refused it.")
    home = agent.page("/support/")
    assert "Balance at Stripe back to 0" in home.text
    assert f"/support/customers/{customer}" in home.links
    assert (
        "It is due now."
        in agent.follow(agent.submit("/support/", f"/support/customers/{customer}/operations/{asked}/retry")).text
    )
