"""Parked events are explained, lead to whose they are, and run again one by one or all of a kind."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from stripe_gateway.cash import EventRefused
from stripe_gateway.inbox import OtherAccount, OtherMode
from stripe_gateway.outbox import own
from stripe_gateway.ownership import ForeignInvoice
from stripe_gateway.tables import StripeCustomer, StripeEvent
from support_ui.inbox_words import EXPLANATIONS, OTHERS, explain
from tests.support_ui.conftest import Desk, Site, at

TYPE = "invoice_payment.paid"


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def keep(site: Site, event_id: str, *, minute: int = 0, obj: dict[str, Any] | None = None, **fields: Any) -> None:
    """An event as the inbox holds it; parked unless the fields say otherwise."""
    now = at("2025-07-01") + timedelta(minutes=minute)
    body: dict[str, Any] = {"id": event_id, "object": "event", "data": {"object": obj or {"id": f"inpay_{event_id}"}}}
    values = {"state": "parked", "code": "event_refused", "error": "It paid EUR", "type": TYPE, "source": "webhook"}
    values |= fields
    with Session(site.engine) as session, session.begin():
        session.add(
            StripeEvent(
                id=event_id,
                object_id=body["data"]["object"]["id"],
                livemode=False,
                payload=json.dumps(body),
                created_at=now,
                received_at=now,
                deliveries=0 if values["source"] == "list" else 1,
                attempts=5,
                next_attempt_at=now,
                handled_at=None if values["state"] in ("parked", "pending") else now,
                **values,
            )
        )


def claim(site: Site, external_id: str, *, kind: str, customer_id: UUID, invoice_id: UUID | None) -> None:
    with Session(site.engine) as session, session.begin():
        if session.get(StripeCustomer, customer_id) is None:
            session.add(
                StripeCustomer(
                    customer_id=customer_id,
                    intent="{}",
                    next_attempt_at=at("2025-07-01"),
                    created_at=at("2025-07-01"),
                )
            )
            session.flush()
        own(session, external_id, kind=kind, customer_id=customer_id, invoice_id=invoice_id, now=at("2025-07-01"))


@pytest.mark.parametrize("kind", [EventRefused, OtherMode, OtherAccount, ForeignInvoice])
def test_every_reason_of_our_own_for_parking_is_explained_in_words(kind: type[EventRefused]) -> None:
    assert explain(kind.code) is not OTHERS


def test_the_words_end_as_sentences_and_a_reason_of_the_books_has_some_too() -> None:
    assert [why.title for why in EXPLANATIONS.values() if not why.cure.endswith(".") or why.title.endswith(".")] == []
    assert explain("something_of_the_books") is OTHERS
    assert explain(None) is EXPLANATIONS["unexpected"]


def test_parked_events_stand_by_reason_with_what_to_do(site: Site, agent: Desk) -> None:
    for index in range(3):
        keep(site, f"evt_money{index}", minute=index)
    keep(site, "evt_mode", code="other_mode", error="The event has livemode True", type="invoice.paid")
    text = agent.page("/support/webhooks?state=parked").text
    assert EXPLANATIONS["event_refused"].title in text
    assert EXPLANATIONS["event_refused"].cure in text
    assert "3 × invoice_payment.paid" in text
    assert EXPLANATIONS["other_mode"].title in text
    assert "The event has livemode True" in text
    page = agent.page("/support/webhooks/evt_mode").text
    assert EXPLANATIONS["other_mode"].cure in page


def test_all_of_one_kind_run_again_and_no_other(site: Site, agent: Desk) -> None:
    for index in range(3):
        keep(site, f"evt_money{index}")
    keep(site, "evt_mode", code="other_mode")
    keep(site, "evt_final", type="invoice.finalized")
    form = agent.page("/support/webhooks?state=parked").form("/support/webhooks/runs", code="event_refused", type=TYPE)
    page = agent.follow(agent.send(form))
    assert "3 events are due again." in page.text
    assert "somebody ran them before you" in agent.follow(agent.send(form)).text
    with Session(site.engine) as session:
        found = {event.id: (event.state, event.attempts) for event in session.query(StripeEvent)}
    assert [found[f"evt_money{index}"] for index in range(3)] == [("pending", 0)] * 3
    assert found["evt_mode"] == found["evt_final"] == ("parked", 5)


def test_who_only_reads_runs_nothing_again(site: Site, agent: Desk) -> None:
    keep(site, "evt_money")
    viewer = site.desk("viewer@demo.test")
    page = viewer.page("/support/webhooks?state=parked")
    assert not [form for form in page.forms if form.action.endswith("/runs")]
    form = agent.page("/support/webhooks?state=parked").form("/support/webhooks/runs")
    form.fields["csrf_token"] = viewer.page("/support/customers").forms[0].fields.get("csrf_token", "")
    assert viewer.send(form).status_code in (400, 403)
    with Session(site.engine) as session:
        assert session.get_one(StripeEvent, "evt_money").state == "parked"


def test_a_parked_event_leads_to_its_customer_and_invoice(site: Site, agent: Desk) -> None:
    draft = site.draft("Northwind")
    claim(site, "in_north", kind="invoice", customer_id=draft.customer_id, invoice_id=draft.invoice_id)
    claim(site, "cus_north", kind="customer", customer_id=draft.customer_id, invoice_id=None)
    keep(site, "evt_invoice", obj={"id": "inpay_1", "invoice": "in_north"})
    keep(site, "evt_customer", obj={"id": "ch_1", "customer": {"id": "cus_north"}})
    keep(site, "evt_stranger", obj={"id": "ch_2", "customer": "cus_other", "invoice": None})
    page = agent.page("/support/webhooks?state=parked")
    customer = f"/support/customers/{draft.customer_id}"
    assert page.links.count(customer) == 2
    assert page.links.count(draft.url) == 1
    assert "Northwind" in page.text
    assert draft.url in agent.page("/support/webhooks/evt_invoice").links
    assert customer in agent.page("/support/webhooks/evt_customer").links
    assert "not known" in agent.page("/support/webhooks/evt_stranger").text


def test_what_is_kept_and_not_acted_on_is_counted_by_type(site: Site, agent: Desk) -> None:
    for index in range(3):
        keep(site, f"evt_radar{index}", state="ignored", code=None, error="no event", type="radar.happened")
    keep(site, "evt_plan", state="ignored", code=None, error=None, type="plan.created")
    text = agent.page("/support/webhooks?state=ignored").text
    assert "Kept, not acted on" in text
    assert "radar.happened 3 plan.created 1" in text.replace("  ", " ")


def test_an_event_that_was_never_delivered_says_where_it_was_found(site: Site, agent: Desk) -> None:
    keep(site, "evt_listed", source="list")
    assert "found in Stripe’s list of events" in agent.page("/support/webhooks/evt_listed").text
    assert "none, listed" in agent.page("/support/webhooks").text
