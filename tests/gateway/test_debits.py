"""Debits of bank accounts: nothing is booked before the bank has answered, and nobody collects the money twice."""

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.panel.wording import status_of
from invoicing.delayed_payments import PaymentIsUnderWay
from invoicing.drafts import get_invoice
from invoicing.tables import Invoice, PaymentUnderWay
from stripe_gateway.cash import EventRefused
from stripe_gateway.debits import record
from stripe_gateway.ownership import owner_of_payment
from stripe_gateway.reconciliation import ReconcileReport
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now, shuffled

DEBITED = "pm_usBankAccount_success"
DAY = timedelta(days=1)


def begun(town: Town, account: str = DEBITED, name: str = "acme") -> Invoice:
    """An invoice over 12.34 whose debit is under way; Stripe has told us of it if it tells us anything."""
    invoice = town.invoice(name, card=account)
    town.sync()
    town.sandbox.advance(60)
    if town.receiver is not None:
        do.pump(town)
    return invoice


def answered(town: Town, *, days: float = 5) -> None:
    town.sandbox.advance(days * 86400)
    if town.receiver is not None:
        do.pump(town)


def debits(town: Town) -> list[tuple[str, Decimal]]:
    with Session(town.engine) as session:
        rows = session.execute(select(PaymentUnderWay.state, PaymentUnderWay.amount)).all()
        return [(state, amount) for state, amount in rows]


def compared(town: Town, *, days: float = 0) -> ReconcileReport:
    return town.gateway.reconcile(now=now() + days * DAY)


def found(report: ReconcileReport) -> dict[str, bool]:
    return {difference.kind: difference.repaired for difference in report.differences}


def shown(town: Town, invoice: Invoice) -> tuple[str, str]:
    """What the customer reads of the invoice: the word and the sentence."""
    with Session(town.engine) as session:
        view = get_invoice(session, customer_id=invoice.customer_id, invoice_id=invoice.id)
        status = status_of(
            view.invoice, view.failures, collection_method="automatic", time_zone="UTC", under_way=view.under_way
        )
        return status.word, status.sentence


def test_nothing_is_booked_before_the_bank_has_answered_and_everybody_is_told(hooked: Town) -> None:
    invoice = begun(hooked)
    before = do.balances(hooked)["customer acme"]
    assert (do.state(hooked, invoice), debits(hooked)) == ("final", [("under_way", Decimal("12.34"))])
    assert "assets:stripe" not in before
    word, sentence = shown(hooked, invoice)
    assert word == "Payment under way"
    assert "12.34" in sentence
    report = compared(hooked)
    assert (report.differences, do.tasks(hooked)) == ([], [])
    assert do.balances(hooked)["customer acme"] == before

    answered(hooked)
    assert (do.state(hooked, invoice), debits(hooked)) == ("paid", [("paid", Decimal("12.34"))])
    # 12.34 less 0.8 %.
    assert do.held(hooked, "acme", "assets:stripe") == Decimal("12.24")
    assert compared(hooked, days=6).differences == []
    assert shown(hooked, invoice)[0] == "Paid"
    do.check(hooked)


def test_a_debit_that_fails_leaves_the_invoice_open_with_its_reason(hooked: Town) -> None:
    invoice = begun(hooked, "pm_usBankAccount_accountClosed")
    answered(hooked)
    assert (do.state(hooked, invoice), debits(hooked)) == ("final", [("failed", Decimal("12.34"))])
    word, sentence = shown(hooked, invoice)
    assert word == "Payment failed"
    assert "has been closed" in sentence
    assert do.held(hooked, "acme", "assets:stripe") == 0
    assert do.held(hooked, "acme", "assets:receivable") == Decimal("12.34")
    assert compared(hooked, days=6).differences == []
    do.check(hooked)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("account", [DEBITED, "pm_usBankAccount_noAccount"])
def test_news_of_a_debit_in_any_order_and_several_times_end_the_same(hooked: Town, account: str, seed: int) -> None:
    invoice = hooked.invoice(card=account)
    hooked.sync()
    hooked.sandbox.advance(5 * 86400)
    hooked.settle()
    hooked.deliver(shuffled(hooked.fetch(), times=2, seed=seed))
    hooked.handle()
    is_paid = account == DEBITED
    assert debits(hooked) == [("paid" if is_paid else "failed", Decimal("12.34"))]
    assert do.state(hooked, invoice) == ("paid" if is_paid else "final")
    assert do.held(hooked, "acme", "assets:stripe") == Decimal("12.24" if is_paid else 0)
    assert compared(hooked, days=6).differences == []


def test_with_every_webhook_lost_a_run_notes_what_is_under_way_and_a_later_one_what_came_of_it(town: Town) -> None:
    paid, failed = begun(town, name="paid"), begun(town, "pm_usBankAccount_noAccount", name="failed")
    first = compared(town)
    assert first.unexplained == []
    assert "fee_not_booked" not in found(first)
    assert debits(town) == [("under_way", Decimal("12.34"))] * 2
    assert shown(town, paid)[0] == "Payment under way"
    answered(town)
    second = compared(town, days=5)
    assert second.unexplained == []
    assert sorted(debits(town)) == [("failed", Decimal("12.34")), ("paid", Decimal("12.34"))]
    assert [do.state(town, invoice) for invoice in (paid, failed)] == ["paid", "final"]
    assert [do.held(town, name, "assets:stripe") for name in ("paid", "failed")] == [Decimal("12.24"), 0]
    # Long after payments must have met the balance, every cent still agrees.
    assert compared(town, days=40).differences == []
    do.check(town)


@pytest.mark.parametrize("kind", ["void", "write_off"])
def test_what_is_on_its_way_is_neither_voided_nor_given_up(hooked: Town, kind: str) -> None:
    invoice = begun(hooked)
    options = {"then": "rebill"} if kind == "void" else {}
    with pytest.raises(PaymentIsUnderWay, match=r"12\.34 USD.*Wait for the bank's answer") as refused:
        do.begin(hooked, invoice, kind, options=options)
    assert refused.value.code == "payment_under_way"
    answered(hooked)
    assert do.state(hooked, invoice) == "paid"


def test_an_invoice_is_given_up_once_the_bank_has_not_paid(hooked: Town) -> None:
    invoice = begun(hooked, "pm_usBankAccount_noAccount")
    answered(hooked)
    do.begin(hooked, invoice, "write_off")
    hooked.sync()
    assert do.state(hooked, invoice) == "uncollectible"


@pytest.mark.parametrize("kind", ["void", "write_off"])
def test_a_debit_that_we_had_not_heard_of_is_seen_before_an_invoice_is_ended(town: Town, kind: str) -> None:
    invoice = begun(town)
    given = do.begin(town, invoice, kind, options={"then": "rebill"} if kind == "void" else {})
    town.sync()
    ended = do.movement(town, invoice, given)
    assert (ended.state, ended.code) == ("refused", "payment_under_way")
    assert do.at_stripe(town, invoice)["status"] == "open"
    assert do.state(town, invoice) == "final"
    assert do.tasks(town) == ["movement_refused"]
    answered(town)
    assert compared(town, days=5).unexplained == []
    assert do.state(town, invoice) == "paid"


@pytest.mark.parametrize("account", [DEBITED, "pm_usBankAccount_noAccount"])
def test_a_bank_transfer_meanwhile_waits_for_the_debit_and_stripe_collects_no_second_time(
    hooked: Town, account: str
) -> None:
    invoice = begun(hooked, account)
    given = do.outside(hooked, invoice)
    hooked.sync(patience_s=0)
    [waiting] = do.operations(hooked, "pay_outside")
    assert (waiting.state, do.at_stripe(hooked, invoice)["status"]) == ("waiting", "open")
    assert "answer decides" in str(waiting.last_error)
    answered(hooked)
    hooked.sync(at=now() + 5 * DAY, patience_s=0)
    do.pump(hooked)
    assert do.movement(hooked, invoice, given).state == "done"
    assert do.at_stripe(hooked, invoice)["status"] == "paid"
    # Where the bank paid too, what came twice is the customer's, in sight, and can be sent back.
    twice = account == DEBITED
    assert do.held(hooked, "acme", "liabilities:unapplied") == (Decimal("-12.34") if twice else 0)
    assert do.held(hooked, "acme", "assets:receivable") == 0
    assert compared(hooked, days=6).unexplained == []


def test_a_debit_that_is_returned_after_a_year_is_a_lost_dispute_in_the_books(hooked: Town) -> None:
    invoice = begun(hooked)
    answered(hooked, days=8)
    hooked.sandbox.post("payouts")
    do.pump(hooked)
    hooked.sandbox.advance(380 * 86400)
    hooked.sandbox.post(f"debits/{do.charge_of(hooked, invoice)}/return", reason="debit_not_authorized")
    do.pump(hooked)
    [dispute] = do.disputes(hooked)
    assert (dispute.status, dispute.reason, dispute.amount) == ("lost", "debit_not_authorized", Decimal("12.34"))
    books = do.balances(hooked)["customer acme"]
    assert books["expenses:chargebacks"] == Decimal("12.34")
    assert books["expenses:dispute_fees"] == Decimal(15)
    assert "assets:disputed" not in books
    assert do.state(hooked, invoice) == "paid"
    assert compared(hooked, days=400).unexplained == []
    do.check(hooked)


def test_a_payout_that_carries_a_failed_debit_is_cleared_to_the_cent(hooked: Town) -> None:
    begun(hooked, "pm_usBankAccount_noAccount", name="failed")
    do.paid(hooked, "paid")
    answered(hooked, days=12)
    hooked.sandbox.post("payouts")
    do.pump(hooked)
    for name in ("paid", "failed"):
        assert do.held(hooked, name, "assets:stripe") == 0, name
    assert compared(hooked, days=12).unexplained == []
    do.check(hooked)


def test_a_debit_that_ended_is_not_under_way_again(hooked: Town, databases_owner: Engine) -> None:
    begun(hooked)
    answered(hooked)
    compared(hooked, days=5)
    for statement in (
        "UPDATE payments_under_way SET state = 'under_way', ended_at = NULL",
        "DELETE FROM payments_under_way",
        "UPDATE stripe_transactions SET is_under_way = true",
    ):
        with databases_owner.connect() as connection, pytest.raises(IntegrityError):
            connection.execute(text(statement))


def test_a_debit_of_another_mode_or_currency_is_refused(hooked: Town) -> None:
    hooked.invoice(card=DEBITED)
    hooked.sync()
    hooked.sandbox.advance(60)
    hooked.settle()
    pending = next(one for one in hooked.fetch() if one.event["type"] == "charge.pending")
    charge = pending.event["data"]["object"]["id"]
    hooked.sandbox.post("drift", object=charge, set={"currency": "eur"})
    with Session(hooked.engine) as session:
        changed = hooked.gateway.client.retrieve_charge(charge)
        paid = owner_of_payment(
            hooked.engine, hooked.gateway.client, payment_intent=changed["payment_intent"], charge=charge
        )
        assert paid is not None
        for odd in (changed, {**changed, "currency": "usd", "livemode": True}):
            with pytest.raises(EventRefused):
                record(session, odd, owner=paid.owner, livemode=False, now=now())
    assert debits(hooked) == []
