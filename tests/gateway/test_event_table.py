"""Every row of the webhook table: what each event does to the books, and that it does it once."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from stripe_gateway.handlers import HANDLERS
from stripe_gateway.tables import StripeCustomer, StripeEffect
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now
from tests.gateway.test_webhooks import event, receive
from tests.sandbox.receiver import Delivery

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


def heard(town: Town, *types: str) -> list[Delivery]:
    """What Stripe said of these types since the last time; the rest is lost."""
    town.settle()
    return [one for one in town.fetch() if one.event["type"] in types]


def told(obj: dict[str, Any]) -> dict[str, Any]:
    """An object as an event shows it: the SDK's decimals are texts there."""
    found: dict[str, Any] = json.loads(json.dumps(obj, default=str))
    return found


def take(town: Town, deliveries: list[Delivery]) -> None:
    """Take them twice, and handle what they are."""
    town.deliver(deliveries * 2)
    town.handle(tries=2)
    assert not town.events("parked"), [(one.type, one.error) for one in town.events("parked")]


def keys(town: Town) -> set[str]:
    """The kinds of the business keys that were written."""
    with Session(town.engine) as session:
        return {effect.key.partition(":")[0] for effect in session.query(StripeEffect)}


def charged(town: Town, name: str = "acme") -> Invoice:
    """An invoice that Stripe charged; nobody told us so far."""
    invoice = town.invoice(name, "100", card="pm_card_visa")
    town.sync()
    town.sandbox.advance(0)  # what is due now, the charge above all, is done when this returns
    return invoice


def test_invoice_finalized_confirms_a_sync_and_posts_nothing(hooked: Town) -> None:
    invoice = charged(hooked)
    before = do.balances(hooked)
    take(hooked, heard(hooked, "invoice.finalized"))
    assert do.balances(hooked) == before
    assert hooked.row(invoice).state == "done"
    assert keys(hooked) == {"fin"}


def test_invoice_paid_moves_no_money(hooked: Town) -> None:
    invoice = charged(hooked)
    before = do.balances(hooked)
    take(hooked, heard(hooked, "invoice.paid"))
    assert do.balances(hooked) == before
    assert hooked.row(invoice).external_status == "paid"


def test_invoice_payment_paid_is_the_cash(hooked: Town) -> None:
    invoice = charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid"))
    assert do.held(hooked, "acme", "assets:stripe") == 100
    assert do.state(hooked, invoice) == "paid"
    do.check(hooked)


@pytest.mark.parametrize("ours", [True, False])
def test_money_that_came_past_stripe_is_booked_once_whoever_tells(hooked: Town, ours: bool) -> None:
    """Stripe may repeat what we told it. What somebody else told Stripe is news, and stands in the bank as well."""
    invoice = do.standing(hooked, "acme", "100")
    if ours:
        do.outside(hooked, invoice)
        hooked.sync()
    payment = {
        "id": "inpay_outside",
        "object": "invoice_payment",
        "invoice": hooked.row(invoice).external_id,
        "status": "paid",
        "amount_paid": 10000,
        "currency": "usd",
        "livemode": False,
        "created": int(now().timestamp()),
        "payment": {"type": "payment_record", "payment_record": "pr_1"},
    }
    for name in ("evt_one", "evt_two"):
        receive(hooked, event("invoice_payment.paid", payment, id=name))
    hooked.handle()
    assert do.held(hooked, "acme", "assets:bank") == 100
    assert do.held(hooked, "acme", "liabilities:unapplied") == 0
    assert do.state(hooked, invoice) == "paid"
    assert not hooked.events("parked")
    do.check(hooked)


def test_invoice_payment_failed_and_action_required_are_one_failure(hooked: Town) -> None:
    invoice = hooked.invoice("acme", "100", card="pm_card_chargeCustomerFail")
    hooked.sync()
    [failed] = heard(hooked, "invoice.payment_failed")
    take(hooked, [failed])
    receive(hooked, event("invoice.payment_action_required", failed.event["data"]["object"], id="evt_action"))
    hooked.handle()
    assert len(hooked.books()["failures"]) == 1
    assert do.state(hooked, invoice) == "final"


def test_invoice_overpaid_is_a_task_and_stripes_balance_goes_back_to_0(hooked: Town) -> None:
    """Whatever was paid too much stands in the books, unapplied; Stripe must not use it a second time."""
    invoice = charged(hooked)
    found = do.at_stripe(hooked, invoice)
    client = hooked.gateway.client
    client.adjust_balance(found["customer"], {"amount": -250, "currency": "usd"}, key="overpaid")
    for name in ("evt_over", "evt_again"):
        receive(hooked, event("invoice.overpaid", told({**found, "amount_overpaid": 250}), id=name))
    hooked.handle()
    assert do.tasks(hooked) == ["overpaid"]
    assert hooked.sync().operations == 1
    assert client.retrieve_customer(found["customer"])["balance"] == 0


@pytest.mark.parametrize("status", ["void", "uncollectible"])
def test_invoice_voided_or_uncollectible_at_stripe_alone_is_a_task(hooked: Town, status: str) -> None:
    invoice = do.standing(hooked, "acme", "100")
    external_id = hooked.row(invoice).external_id
    client = hooked.gateway.client
    end = client.void_invoice if status == "void" else client.mark_uncollectible
    end(str(external_id), {}, key="by hand")
    take(hooked, heard(hooked, "invoice.voided", "invoice.marked_uncollectible"))
    assert do.tasks(hooked) == [f"{status}_at_stripe_only"]
    assert do.state(hooked, invoice) == "final", "a person decides"
    # Done here as well, by a person, it is settled.
    given = do.void(hooked, invoice) if status == "void" else do.begin(hooked, invoice, "write_off")
    hooked.sync()
    assert do.movement(hooked, invoice, given).state == "done"
    assert do.state(hooked, invoice) == status


def test_invoice_finalization_failed_parks_the_sync_with_stripes_reason(hooked: Town) -> None:
    invoice = hooked.invoice("acme", "100")
    hooked.sandbox.fault("invoices.finalize", "429", count=1000)
    hooked.sync(patience_s=0)
    hooked.sandbox.clear_faults()
    [draft] = hooked.drafts()
    failed = told({**draft, "last_finalization_error": {"message": "The customer's address is not complete."}})
    receive(hooked, event("invoice.finalization_failed", failed, id="evt_failed"))
    receive(hooked, event("invoice.finalization_failed", failed, id="evt_again"))
    hooked.handle()
    row = hooked.row(invoice)
    assert (row.state, row.last_code) == ("parked", "finalization_failed")
    assert "address" in (row.last_error or "")
    assert do.tasks(hooked) == ["finalization_failed"]
    with Session(hooked.engine) as session, session.begin():
        hooked.gateway.retry(
            session, customer_id=invoice.customer_id, invoice_id=invoice.id, actor="agent@demo.test", now=now()
        )
    assert hooked.sync().synced == 1


def test_invoice_deleted_sends_the_sync_back_to_look(hooked: Town) -> None:
    invoice = hooked.invoice("acme", "100")
    hooked.sandbox.fault("invoices.add_lines", "429", count=1000)
    hooked.sync(patience_s=0)
    hooked.sandbox.clear_faults()
    [draft] = hooked.drafts()
    hooked.gateway.client.delete_draft(draft["id"])
    take(hooked, heard(hooked, "invoice.deleted"))
    assert hooked.row(invoice).state == "unknown"
    assert hooked.sync().synced == 1
    hooked.assert_each_stands_once()


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


def house(town: Town) -> dict[str, Decimal]:
    return do.balances(town).get("house USD", {})


def paid_out(town: Town) -> dict[str, Any]:
    """A payout of everything that is available, arrived and reconciled at Stripe."""
    town.sandbox.advance(3 * 86400)
    town.settle()
    town.fetch()
    payout: dict[str, Any] = town.sandbox.post("payouts")
    town.sandbox.advance(5 * 86400)
    return payout


def test_payout_paid_is_in_the_bank_and_each_part_of_it_leaves_its_customers_books(hooked: Town) -> None:
    """
    house     bank <- stripe          96.80     then, of the charge:
    acme      house <- stripe         96.80
    house     stripe <- customers     96.80
    """
    charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid", "charge.updated"))
    assert do.held(hooked, "acme", "assets:stripe") == Decimal("96.80")
    paid_out(hooked)
    take(hooked, heard(hooked, "payout.paid", "payout.reconciliation_completed"))
    assert house(hooked) == {"assets:bank": Decimal("96.8"), "assets:customers": Decimal("-96.8")}
    assert do.held(hooked, "acme", "assets:stripe") == 0
    assert do.held(hooked, "acme", "assets:house") == Decimal("96.80")
    do.check(hooked)


def test_a_payout_alone_tells_of_payment_fee_refund_and_dispute_that_nobody_told_of(hooked: Town) -> None:
    """Only the last event arrives: what each balance transaction did is booked before it is cleared."""
    invoice = charged(hooked)
    charge = do.charge_of(hooked, invoice)
    hooked.gateway.client.create_refund({"charge": charge, "amount": 1000}, key="dashboard")
    hooked.sandbox.post("disputes", charge=charge, amount=2000)
    paid_out(hooked)
    take(hooked, heard(hooked, "payout.reconciliation_completed"))
    assert do.held(hooked, "acme", "expenses:payment_fees") == Decimal("3.20")
    assert do.held(hooked, "acme", "assets:disputed") == 20
    assert [one.state for one in do.refunds(hooked)] == ["succeeded"]
    if do.state(hooked, invoice) != "paid":
        pytest.fail("the payment itself is booked from the refund's or the dispute's")
    assert do.held(hooked, "acme", "assets:stripe") == 0
    do.check(hooked)


def test_money_of_nobody_in_a_payout_is_kept_in_suspense_with_a_task(hooked: Town) -> None:
    charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid", "charge.updated"))
    client = hooked.gateway.client
    other = client.create_customer({"name": "somebody else", "email": "else@demo.test"}, key="else")
    foreign = client.create_invoice(
        {"customer": other["id"], "collection_method": "send_invoice", "days_until_due": 30}, key="foreign"
    )
    client.add_lines(foreign["id"], {"lines": [{"amount": 4000, "description": "not ours"}]}, key="foreign lines")
    client.finalize_invoice(foreign["id"], {}, key="foreign final")
    hooked.sandbox.post(f"invoices/{foreign['id']}/pay")
    hooked.sandbox.set(payout_fee_minor=25)
    paid_out(hooked)
    take(hooked, heard(hooked, "payout.paid", "payout.reconciliation_completed"))
    assert do.tasks(hooked) == ["unknown_money"]
    assert house(hooked)["assets:suspense"] == Decimal("-38.54")
    assert do.held(hooked, "acme", "assets:stripe") == 0


def test_payout_failed_after_paid_is_taken_back_and_told(hooked: Town) -> None:
    charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid", "charge.updated"))
    payout = paid_out(hooked)
    take(hooked, heard(hooked, "payout.paid"))
    assert house(hooked)["assets:bank"] == Decimal("96.80")
    hooked.sandbox.post(f"payouts/{payout['id']}/fail")
    take(hooked, heard(hooked, "payout.failed"))
    assert "assets:bank" not in house(hooked)
    assert do.tasks(hooked) == ["payout_failed"]
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


def test_events_of_a_canceled_sync_are_shown_to_a_person(hooked: Town) -> None:
    """Voided here before it stood there; then somebody finalizes a draft of it at Stripe by hand."""
    invoice = hooked.invoice("acme", "100")
    hooked.sandbox.fault("invoices.add_lines", "429", count=1000)
    hooked.sync(patience_s=0)
    hooked.sandbox.clear_faults()
    [draft] = hooked.drafts()
    do.void(hooked, invoice)
    hooked.sync(at=now() + timedelta(minutes=5))
    assert hooked.row(invoice).state == "canceled"
    receive(hooked, event("invoice.finalized", told({**draft, "status": "open"}), id="evt_ghost"))
    hooked.handle(tries=8)
    [parked] = hooked.events("parked")
    assert "voided here" in (parked.error or "")
