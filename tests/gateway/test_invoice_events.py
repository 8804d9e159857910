"""What each event of an invoice does to the books, and that it does it once."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from tests.gateway import movement as do
from tests.gateway.conftest import Town, now
from tests.gateway.news import charged, heard, keys, take, told
from tests.gateway.test_webhooks import event, receive


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
