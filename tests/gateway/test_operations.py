"""What staff begin with a final invoice reaches Stripe once, and the books say what Stripe says."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from stripe_gateway.errors import OperationIsDone, OperationNotFound
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now


def D(text: str) -> Decimal:  # noqa: N802 - as short as the figures it stands beside
    return Decimal(text)


def test_a_credit_note_on_an_open_invoice_lowers_what_stripe_collects(town: Town) -> None:
    invoice = do.standing(town, "acme", "100")
    given = do.credit(town, invoice, "30")
    assert town.sync().operations == 1
    assert do.at_stripe(town, invoice)["amount_remaining"] == 7000
    assert do.movement(town, invoice, given).state == "done"
    assert do.held(town, "acme", "assets:receivable") == 70
    [note] = town.gateway.client.list_credit_notes()
    assert (note["total"], note["pre_payment_amount"], note["post_payment_amount"]) == (3000, 3000, 0)
    assert note["id"] == do.movement(town, invoice, given).external_id
    do.check(town)


def test_a_credit_note_on_a_paid_invoice_refunds_and_names_the_refund_that_we_made(hooked: Town) -> None:
    """
    income:adjustments -> unapplied   30.00
    unapplied          -> stripe      30.00
    """
    invoice = do.paid(hooked, "acme", "100")
    before = do.held(hooked, "acme", "assets:stripe")
    given = do.credit(hooked, invoice, "30")
    assert hooked.sync().operations == 2
    [refund] = do.refunds(hooked)
    [note] = hooked.gateway.client.list_credit_notes()
    assert [part["refund"] for part in note["refunds"]] == [refund.external_id]
    assert note["post_payment_amount"] == 3000
    assert refund.state == "succeeded"
    assert do.held(hooked, "acme", "assets:stripe") == before - 30
    assert do.movement(hooked, invoice, given).state == "done"
    first = do.balances(hooked)
    do.pump(hooked)
    assert do.balances(hooked) == first, "what Stripe then tells is known"
    assert not hooked.events("parked")
    do.check(hooked)


def test_a_credit_note_that_the_customer_keeps_as_credit_never_touches_stripes_balance(hooked: Town) -> None:
    invoice = do.paid(hooked, "acme", "100")
    do.credit(hooked, invoice, "25", paid_part="keep")
    assert hooked.sync().operations == 1
    [note] = hooked.gateway.client.list_credit_notes()
    assert note["out_of_band_amount"] == 2500
    customer = hooked.gateway.client.retrieve_customer(note["customer"])
    assert customer["balance"] == 0
    assert do.held(hooked, "acme", "liabilities:credits:prepaid") == -25
    do.pump(hooked)
    assert not hooked.events("parked")
    do.check(hooked)


def test_a_refund_that_is_pending_is_booked_when_it_succeeds(hooked: Town) -> None:
    invoice = do.paid(hooked, "acme", "100")
    hooked.sandbox.set(refund_pending=True)
    do.credit(hooked, invoice, "30")
    hooked.sync()
    [refund] = do.refunds(hooked)
    assert refund.state == "pending"
    assert do.held(hooked, "acme", "liabilities:unapplied") == -30
    hooked.sandbox.post(f"refunds/{refund.external_id}/settle")
    do.pump(hooked)
    assert do.refunds(hooked)[0].state == "succeeded"
    assert do.held(hooked, "acme", "liabilities:unapplied") == 0
    do.check(hooked)


def test_a_refund_that_fails_after_it_succeeded_is_the_customers_money_again(hooked: Town) -> None:
    invoice = do.paid(hooked, "acme", "100")
    do.credit(hooked, invoice, "30")
    hooked.sync()
    do.pump(hooked)
    [refund] = do.refunds(hooked)
    hooked.sandbox.post(f"refunds/{refund.external_id}/fail")
    do.pump(hooked)
    assert do.refunds(hooked)[0].state == "failed"
    assert do.held(hooked, "acme", "liabilities:unapplied") == -30
    assert "refund_failed" in do.tasks(hooked)
    do.check(hooked)


def test_a_refund_that_fails_before_stripe_knows_its_credit_note_does_not_refuse_the_note(hooked: Town) -> None:
    """The bank is faster than we are: Stripe takes no note that names a failed refund, and nobody has told us."""
    invoice = do.paid(hooked, "acme", "100")
    do.credit(hooked, invoice, "30")
    hooked.sandbox.fault("credit_notes.create", "429", count=1000)
    hooked.sync(patience_s=0)
    [refund] = do.refunds(hooked)
    hooked.sandbox.post(f"refunds/{refund.external_id}/fail")
    hooked.sandbox.clear_faults()
    summary = hooked.sync(at=now() + timedelta(minutes=10))
    assert summary.refused == 0
    [note] = hooked.gateway.client.list_credit_notes()
    assert (note["refunds"], note["out_of_band_amount"]) == ([], 3000)
    do.pump(hooked)
    assert do.refunds(hooked)[0].state == "failed"
    assert do.held(hooked, "acme", "liabilities:unapplied") == -30
    do.check(hooked)


def test_a_refund_that_stripe_refuses_is_no_refund_and_the_credit_note_says_so(hooked: Town) -> None:
    """A dispute holds the money at the moment when the refund is asked for."""
    invoice = do.paid(hooked, "acme", "100")
    do.credit(hooked, invoice, "30")
    hooked.sandbox.post("disputes", charge=do.charge_of(hooked, invoice))
    summary = hooked.sync()
    assert (summary.operations, summary.refused) == (1, 1)
    [refund] = do.refunds(hooked)
    assert (refund.state, refund.failure_code) == ("failed", "charge_disputed")
    assert do.held(hooked, "acme", "liabilities:unapplied") == -30
    [note] = hooked.gateway.client.list_credit_notes()
    assert (note["refunds"], note["out_of_band_amount"]) == ([], 3000)
    assert "refund_failed" in do.tasks(hooked)
    do.check(hooked)


def test_a_void_is_in_the_books_when_stripe_has_voided(town: Town) -> None:
    invoice = do.standing(town, "acme", "100")
    given = do.void(town, invoice)
    assert do.state(town, invoice) == "final"
    assert town.sync().operations == 1
    assert do.at_stripe(town, invoice)["status"] == "void"
    assert do.state(town, invoice) == "void"
    assert do.movement(town, invoice, given).state == "done"
    row = town.row(invoice)
    assert (row.external_status, row.last_code) == ("void", None)
    do.check(town)


def test_a_void_of_what_was_paid_meanwhile_is_refused_here_as_well(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    given = do.void(hooked, invoice)
    hooked.sandbox.post(f"invoices/{hooked.row(invoice).external_id}/pay")
    assert hooked.sync().refused == 1
    found = do.movement(hooked, invoice, given)
    assert (found.state, found.code) == ("refused", "invoice_is_paid")
    assert do.state(hooked, invoice) == "final"
    do.pump(hooked)
    assert do.state(hooked, invoice) == "paid"
    do.check(hooked)


def test_an_invoice_that_was_given_up_can_still_be_paid(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    do.begin(hooked, invoice, "write_off")
    assert hooked.sync().operations == 1
    assert do.at_stripe(hooked, invoice)["status"] == "uncollectible"
    assert do.state(hooked, invoice) == "uncollectible"
    assert do.held(hooked, "acme", "expenses:bad_debt") == 100
    hooked.sandbox.post(f"invoices/{hooked.row(invoice).external_id}/pay")
    do.pump(hooked)
    assert do.state(hooked, invoice) == "paid"
    assert do.held(hooked, "acme", "expenses:bad_debt") == 0
    assert not hooked.events("parked")
    do.check(hooked)


def test_money_that_came_past_stripe_stops_stripe_and_is_booked_once(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    given = do.outside(hooked, invoice)
    assert hooked.sync().operations == 1
    assert do.at_stripe(hooked, invoice)["status"] == "paid"
    do.pump(hooked)
    assert do.held(hooked, "acme", "assets:bank") == 100
    assert do.held(hooked, "acme", "assets:stripe") == 0
    assert do.state(hooked, invoice) == "paid"
    assert do.movement(hooked, invoice, given).state == "done"
    assert not hooked.events("parked")
    do.check(hooked)


def test_stripe_was_faster_than_the_bank_transfer_and_the_second_money_is_the_customers(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    given = do.outside(hooked, invoice)
    hooked.sandbox.post(f"invoices/{hooked.row(invoice).external_id}/pay")
    hooked.sync()
    do.pump(hooked)
    assert do.movement(hooked, invoice, given).state == "done"
    assert do.held(hooked, "acme", "assets:bank") == 100
    assert do.held(hooked, "acme", "liabilities:unapplied") == -100
    do.check(hooked)


def test_an_accepted_dispute_is_lost_at_once(hooked: Town) -> None:
    invoice = do.paid(hooked, "acme", "100")
    dispute = hooked.sandbox.post("disputes", charge=do.charge_of(hooked, invoice))
    do.pump(hooked)
    assert do.held(hooked, "acme", "assets:disputed") == 100
    assert "dispute_needs_response" in do.tasks(hooked)
    given = do.begin(hooked, invoice, "accept_dispute", options={"dispute": dispute["id"]})
    assert hooked.sync().operations == 1
    assert do.movement(hooked, invoice, given).state == "done"
    assert do.held(hooked, "acme", "assets:disputed") == 0
    assert do.held(hooked, "acme", "expenses:chargebacks") == 100
    assert do.tasks(hooked) == []
    first = do.balances(hooked)
    do.pump(hooked)
    assert do.balances(hooked) == first
    do.check(hooked)


# Before the invoice stands there


def test_what_is_asked_about_an_invoice_waits_until_it_stands_at_stripe(town: Town) -> None:
    invoice = town.invoice("acme", "100")
    given = do.credit(town, invoice, "30")
    town.sandbox.fault("invoices.create", "429", count=1000)
    town.sync(patience_s=0)
    assert do.operations(town)[0].last_code == "stripe_waits"
    town.sandbox.clear_faults()
    summary = town.sync(at=now() + timedelta(minutes=1))
    assert (summary.synced, summary.operations) == (1, 1)
    assert do.movement(town, invoice, given).state == "done"
    assert do.at_stripe(town, invoice)["amount_remaining"] == 7000


@pytest.mark.parametrize("stands", ["nothing", "a draft", "a draft whose answer was lost", "the invoice"])
def test_a_void_of_an_invoice_that_is_not_done_leaves_nothing_behind(town: Town, stands: str) -> None:
    invoice = town.invoice("acme", "100")
    fault = {
        "nothing": ("customers.create", "429"),
        "a draft": ("invoices.add_lines", "429"),
        "a draft whose answer was lost": ("invoices.create", "reset_after"),
        "the invoice": ("invoices.finalize", "reset_after"),
    }[stands]
    town.sandbox.fault(*fault, count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    given = do.void(town, invoice)
    town.sync(at=now() + timedelta(hours=2))
    assert do.movement(town, invoice, given).state == "done"
    assert do.state(town, invoice) == "void"
    assert town.drafts() == []
    assert town.standing() == {}
    if stands != "the invoice":
        assert town.row(invoice).state == "canceled"
    before = town.sandbox.counts()
    town.sync(at=now() + timedelta(days=3))
    assert {name: count for name, count in town.sandbox.counts().items() if "list" not in name} == {
        name: count for name, count in before.items() if "list" not in name
    }, "a canceled sync sends nothing any more"
    do.check(town)


def test_a_void_of_a_parked_invoice_reads_stripe_first(town: Town) -> None:
    invoice = town.invoice("acme", "100")
    key = f"inv:{invoice.id}:create:g1"
    customer = town.gateway.client.create_customer({"name": "somebody else"}, key="other")
    town.gateway.client.create_invoice({"customer": customer["id"]}, key=key)
    assert town.sync().parked == 1
    given = do.void(town, invoice, then="give_up")
    assert town.sync().operations == 1
    assert town.row(invoice).state == "canceled"
    assert do.movement(town, invoice, given).state == "done"
    with Session(town.engine) as session, session.begin(), pytest.raises(Exception, match="voided before"):
        town.gateway.retry(
            session, customer_id=invoice.customer_id, invoice_id=invoice.id, actor="agent@demo.test", now=now()
        )


# A balance at Stripe


def test_a_balance_at_stripe_goes_back_to_0_even_if_it_moves_meanwhile(town: Town) -> None:
    from stripe_gateway.operations import set_balance_to_zero

    invoice = do.standing(town, "acme", "100")
    customer = do.at_stripe(town, invoice)["customer"]
    town.gateway.client.adjust_balance(customer, {"amount": -500, "currency": "usd"}, key="by hand 1")
    with Session(town.engine) as session, session.begin():
        set_balance_to_zero(
            session, customer_id=invoice.customer_id, invoice_id=invoice.id, cause="over:in_1:500", now=now()
        )
    assert town.sync().operations == 1
    assert town.gateway.client.retrieve_customer(customer)["balance"] == 0
    # Again for the same cause: nothing; another cause finds it at 0 and does nothing.
    town.gateway.client.adjust_balance(customer, {"amount": -700, "currency": "usd"}, key="by hand 2")
    for cause, expected in (("over:in_1:500", 0), ("over:in_2:700", 1)):
        with Session(town.engine) as session, session.begin():
            set_balance_to_zero(session, customer_id=invoice.customer_id, invoice_id=invoice.id, cause=cause, now=now())
        assert town.sync().operations == expected
    assert town.gateway.client.retrieve_customer(customer)["balance"] == 0


# As others see it


def test_pages_see_how_far_an_operation_is_and_can_retry_what_is_parked(town: Town) -> None:
    invoice = do.standing(town, "acme", "100")
    given = do.void(town, invoice)
    town.sandbox.fault("invoices.void", "reset_before", count=1000)
    town.sync(patience_s=0)
    with Session(town.engine) as session:
        state = town.gateway.operation_states(session, customer_id=invoice.customer_id, subjects=[given])[given]
        due = town.gateway.due_work(now=now() + timedelta(hours=1), limit=10)
    assert (state.state, state.step, state.invoice_id) == ("waiting", "void", invoice.id)
    assert [work.kind for work in due] == ["operation"]
    assert due[0].ids == (str(invoice.customer_id), str(given))
    town.sandbox.clear_faults()
    with Session(town.engine) as session, session.begin():
        town.gateway.retry_operation(
            session, customer_id=invoice.customer_id, subject_id=given, actor="agent@demo.test", now=now()
        )
    assert town.gateway.operate_one(customer_id=invoice.customer_id, subject_id=given, now=now()) == "done"
    with Session(town.engine) as session, pytest.raises(OperationIsDone):
        town.gateway.retry_operation(
            session, customer_id=invoice.customer_id, subject_id=given, actor="agent@demo.test", now=now()
        )
    with Session(town.engine) as session, pytest.raises(OperationNotFound):
        town.gateway.retry_operation(
            session, customer_id=invoice.customer_id, subject_id=invoice.id, actor="agent@demo.test", now=now()
        )


def test_the_same_order_twice_is_one_operation(town: Town) -> None:
    invoice = do.standing(town, "acme", "100")
    assert do.void(town, invoice) == do.void(town, invoice)
    assert len(do.operations(town)) == 1
