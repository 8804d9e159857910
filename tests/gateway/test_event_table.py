"""Every row of the webhook table: what each event does to the books, and that it does it once.

Events of invoices and of payouts have files of their own.
"""

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Session

from stripe_gateway.handlers import HANDLERS
from stripe_gateway.tables import StripeCustomer
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now
from tests.gateway.news import charged, heard, keys, take
from tests.gateway.test_webhooks import event, receive

TABLE = [
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.overpaid",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "invoice.finalization_failed",
    "invoice.deleted",
    "invoice_payment.paid",
    "charge.updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "credit_note.created",
    "credit_note.voided",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
    "payout.paid",
    "payout.failed",
    "payout.reconciliation_completed",
    "customer.deleted",
    "payment_method.detached",
    "radar.early_fraud_warning.created",
]


def test_every_event_of_the_table_has_a_handler_and_the_subset_of_paid_has_none() -> None:
    assert set(TABLE) <= HANDLERS.keys()
    assert "invoice.payment_succeeded" not in HANDLERS, "it is a subset of invoice.paid"
    assert "charge.refunded" not in HANDLERS, "its amount is a running sum"


def test_charge_updated_books_the_fee_once(hooked: Town) -> None:
    """payment_fees 3.20 <- stripe 3.20"""
    charged(hooked)
    take(hooked, heard(hooked, "charge.updated"))
    assert do.held(hooked, "acme", "expenses:payment_fees") == Decimal("3.20")
    assert do.held(hooked, "acme", "assets:stripe") == Decimal("-3.20")
    assert keys(hooked) == {"bt"}


@pytest.mark.parametrize("types", [("refund.created",), ("refund.updated",), ("refund.created", "refund.updated")])
def test_a_refund_made_in_the_dashboard_books_its_credit_note_first(hooked: Town, types: tuple[str, ...]) -> None:
    """Even before we heard of the payment that it gives back."""
    invoice = charged(hooked)
    body = {"charge": do.charge_of(hooked, invoice), "amount": 3000}
    hooked.gateway.client.create_refund(body, key="dashboard")
    take(hooked, heard(hooked, *types))
    [note] = do.credit_notes(hooked)
    assert note.amount == 30
    assert note.cash_part == 30
    assert [one.state for one in do.refunds(hooked)] == ["succeeded"]
    assert do.held(hooked, "acme", "assets:stripe") == 70
    assert do.held(hooked, "acme", "income:adjustments") == 30
    do.check(hooked)


def test_refund_failed_gives_the_money_back_to_the_customer(hooked: Town) -> None:
    """It was promised by us, so it stays theirs."""
    invoice = do.paid(hooked, "acme", "100")
    do.credit(hooked, invoice, "30")
    hooked.sync()
    take(hooked, heard(hooked, "refund.created", "refund.updated"))
    [refund] = do.refunds(hooked)
    assert refund.state == "succeeded"
    hooked.sandbox.post(f"refunds/{refund.external_id}/fail")
    take(hooked, heard(hooked, "refund.failed"))
    assert [one.state for one in do.refunds(hooked)] == ["failed"]
    assert do.held(hooked, "acme", "liabilities:unapplied") == -30
    assert [note.is_void for note in do.credit_notes(hooked)] == [False]
    do.check(hooked)


def test_refund_failed_takes_back_what_a_refund_made_in_the_dashboard_had_booked(hooked: Town) -> None:
    invoice = charged(hooked)
    refund = hooked.gateway.client.create_refund(
        {"charge": do.charge_of(hooked, invoice), "amount": 3000}, key="dashboard"
    )
    take(hooked, heard(hooked, "invoice_payment.paid", "refund.created"))
    hooked.sandbox.post(f"refunds/{refund['id']}/fail")
    take(hooked, heard(hooked, "refund.failed"))
    assert [one.state for one in do.refunds(hooked)] == ["failed"]
    assert do.held(hooked, "acme", "assets:stripe") == 100
    assert do.held(hooked, "acme", "liabilities:unapplied") == 0
    assert [note.is_void for note in do.credit_notes(hooked)] == [True]
    assert do.tasks(hooked) == ["refund_failed"]
    do.check(hooked)


def test_a_credit_note_made_in_the_dashboard_is_a_task(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    body = {"invoice": hooked.row(invoice).external_id, "amount": 500}
    hooked.gateway.client.create_credit_note(body, key="dashboard")
    before = do.balances(hooked)
    take(hooked, heard(hooked, "credit_note.created"))
    assert do.tasks(hooked) == ["foreign_credit_note"]
    assert do.balances(hooked) == before


def test_our_credit_note_voided_in_the_dashboard_is_a_task(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    do.credit(hooked, invoice, "5")
    hooked.sync()
    take(hooked, heard(hooked, "credit_note.created"))
    assert do.tasks(hooked) == []
    [note] = hooked.gateway.client.list_credit_notes()
    hooked.gateway.client._v1.credit_notes.void_credit_note(note["id"])
    take(hooked, heard(hooked, "credit_note.voided"))
    assert do.tasks(hooked) == ["credit_note_voided"]


def test_an_inquiry_moves_no_money_and_asks_a_person_in_time(hooked: Town) -> None:
    invoice = charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid"))
    hooked.sandbox.post("disputes", charge=do.charge_of(hooked, invoice), inquiry=True)
    before = do.balances(hooked)
    take(hooked, heard(hooked, "charge.dispute.created"))
    assert do.balances(hooked) == before
    assert do.tasks(hooked) == ["dispute_needs_response"]
    [dispute] = do.disputes(hooked)
    assert dispute.evidence_due_at is not None


@pytest.mark.parametrize(
    "types",
    [
        ("charge.dispute.created",),
        ("charge.dispute.funds_withdrawn",),
        ("charge.dispute.updated", "charge.dispute.funds_withdrawn"),
    ],
)
def test_a_disputes_money_and_fee_are_booked_whichever_event_comes(hooked: Town, types: tuple[str, ...]) -> None:
    """
    disputed      80.00 <- stripe
    dispute_fees  15.00 <- stripe
    """
    invoice = charged(hooked)
    hooked.sandbox.post("disputes", charge=do.charge_of(hooked, invoice), amount=8000)
    take(hooked, heard(hooked, *types))
    assert do.held(hooked, "acme", "assets:disputed") == 80
    assert do.held(hooked, "acme", "expenses:dispute_fees") == 15
    assert do.held(hooked, "acme", "assets:stripe") == 5
    do.check(hooked)


def test_a_lost_dispute_that_is_won_late_gives_everything_back_but_the_fee(hooked: Town) -> None:
    invoice = charged(hooked)
    dispute = hooked.sandbox.post("disputes", charge=do.charge_of(hooked, invoice))
    hooked.sandbox.post(f"disputes/{dispute['id']}", status="lost")
    take(hooked, heard(hooked, "charge.dispute.closed"))
    assert do.held(hooked, "acme", "expenses:chargebacks") == 100
    hooked.sandbox.post(f"disputes/{dispute['id']}", status="won")
    take(hooked, heard(hooked, "charge.dispute.funds_reinstated", "charge.dispute.closed"))
    assert do.held(hooked, "acme", "expenses:chargebacks") == 0
    assert do.held(hooked, "acme", "assets:disputed") == 0
    assert [one.status for one in do.disputes(hooked)] == ["won"]
    do.check(hooked)


def test_customer_deleted_is_a_task_and_known(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    hooked.gateway.client._v1.customers.delete(do.at_stripe(hooked, invoice)["customer"])
    take(hooked, heard(hooked, "customer.deleted"))
    assert "customer_deleted" in do.tasks(hooked)
    with Session(hooked.engine) as session:
        assert session.get_one(StripeCustomer, invoice.customer_id).deleted_at is not None


def test_an_early_fraud_warning_is_a_task(hooked: Town) -> None:
    invoice = charged(hooked)
    warning = {"id": "issfr_1", "object": "radar.early_fraud_warning", "fraud_type": "misc", "actionable": True}
    warning["charge"] = do.charge_of(hooked, invoice)
    for number in (1, 2):
        receive(hooked, event("radar.early_fraud_warning.created", warning, id=f"evt_fraud{number}"))
    hooked.handle()
    assert do.tasks(hooked) == ["early_fraud_warning"]


def test_what_moved_without_an_invoice_of_ours_is_kept_and_ignored(hooked: Town) -> None:
    client = hooked.gateway.client
    other = client.create_customer({"name": "somebody else", "email": "else@demo.test"}, key="else")
    foreign = client.create_invoice(
        {"customer": other["id"], "collection_method": "send_invoice", "days_until_due": 30}, key="foreign"
    )
    client.add_lines(foreign["id"], {"lines": [{"amount": 4000, "description": "not ours"}]}, key="foreign lines")
    client.finalize_invoice(foreign["id"], {}, key="foreign final")
    hooked.sandbox.post(f"invoices/{foreign['id']}/pay")
    [payment] = [one for one in client.list_invoice_payments(invoice=foreign["id"]) if one["status"] == "paid"]
    intent = client.retrieve_payment_intent(payment["payment"]["payment_intent"])
    client.create_refund({"charge": intent["latest_charge"], "amount": 100}, key="foreign refund")
    hooked.sandbox.post("disputes", charge=intent["latest_charge"], amount=500)
    do.pump(hooked)
    assert {one.state for one in hooked.events()} == {"ignored"}
    assert do.balances(hooked) == {}


# What does not fit our record


@pytest.mark.parametrize(
    ("changes", "why"), [({"currency": "eur"}, "EUR"), ({"metadata": {"ledger_refund_id": "x"}}, "never asked for")]
)
def test_a_refund_that_does_not_fit_posts_nothing(hooked: Town, changes: dict[str, Any], why: str) -> None:
    """The sandbox lies here as Stripe never should: the record of the refund is made by hand."""
    from stripe_gateway import refunds
    from stripe_gateway.cash import EventRefused
    from stripe_gateway.ownership import owner_of_payment

    invoice = do.paid(hooked, "acme", "100")
    refund = hooked.gateway.client.create_refund(
        {"charge": do.charge_of(hooked, invoice), "amount": 3000}, key="dashboard"
    )
    paid = owner_of_payment(hooked.engine, hooked.gateway.client, payment_intent=refund["payment_intent"], charge=None)
    assert paid is not None
    with Session(hooked.engine) as session, pytest.raises(EventRefused, match=why):
        refunds.record(session, {**refund, **changes}, paid=paid, livemode=False, cause="test", now=now())
