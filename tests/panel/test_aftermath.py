"""What the customer reads of an invoice after it was issued: every cent, in plain words, and nobody's reasons."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from invoicing.customers import create_customer, customer_id_for
from invoicing.movements.disputes import move_dispute_funds, record_dispute
from invoicing.movements.foreign_refunds import record_foreign_refund
from invoicing.movements.refunds import settle_refund
from invoicing.movements.requests import movement_done, request_movement
from invoicing.movements.tables import Movement, Refund
from invoicing.payments import record_payment
from invoicing.settings import Settings
from ledger import accounts
from tests.panel.conftest import Site, at

SECRET = "the customer is difficult"


@pytest.fixture
def october(site: Site) -> UUID:
    """acme's October, 40 dollars, final; the panel is open."""
    site.customer("acme")
    site.use("acme", "2026-10-03", "40")
    site.close("2026-11-01")
    invoice_id = site.finalize("acme", "2026-10", on="2026-11-02")
    site.open("acme")
    return invoice_id


def pay(site: Site, invoice_id: UUID, amount: str) -> None:
    with Session(site.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=customer_id_for("acme"),
            invoice_id=invoice_id,
            provider="stripe",
            external_id=f"inpay_{amount}",
            amount=Decimal(amount),
            received_at=at("2026-11-04T10:00"),
            actor="test",
            now=site.now,
        )


def begin(site: Site, invoice_id: UUID, kind: str, amount: str | None = None, **options: str) -> None:
    with Session(site.engine) as session, session.begin():
        request_movement(
            session,
            customer_id=customer_id_for("acme"),
            invoice_id=invoice_id,
            movement_id=uuid4(),
            kind=kind,
            amount=None if amount is None else Decimal(amount),
            options=options,
            reason=SECRET,
            actor="agent@demo.test",
            provider=site.provider,
            settings=Settings(),
            now=site.now,
        )


def finish(site: Site) -> None:
    """The provider confirms whatever was begun."""
    with Session(site.engine) as session, session.begin():
        for movement in session.scalars(select(Movement).where(Movement.state == "working")).all():
            movement_done(
                session,
                customer_id=movement.customer_id,
                movement_id=movement.id,
                external_id=None,
                at=site.now,
                actor="provider",
                now=site.now,
            )


def settle(site: Site, status: str) -> None:
    with Session(site.engine) as session, session.begin():
        refund = session.scalars(select(Refund)).one()
        settle_refund(
            session,
            customer_id=refund.customer_id,
            refund_id=refund.id,
            status=status,
            external_id="re_1",
            failure_code="account_closed" if status == "failed" else None,
            failure_reason="internal words of the provider" if status == "failed" else None,
            at=site.now,
            actor="provider",
            now=site.now,
        )


def foreign_refund(site: Site, amount: str, status: str) -> None:
    """Somebody refunds at the provider, past us."""
    with Session(site.engine) as session, session.begin():
        record_foreign_refund(
            session,
            customer_id=customer_id_for("acme"),
            provider="stripe",
            payment_external_id="inpay_40",
            external_id="re_foreign",
            amount=Decimal(amount),
            status=status,
            reason=SECRET,
            at=site.now,
            actor="provider",
            now=site.now,
        )


def dispute(site: Site, invoice_id: UUID, status: str, **changes: Any) -> None:
    with Session(site.engine) as session, session.begin():
        record_dispute(
            session,
            customer_id=customer_id_for("acme"),
            provider="stripe",
            external_id="dp_1",
            invoice_id=invoice_id,
            payment_external_id="inpay_40",
            amount=Decimal(40),
            currency="USD",
            reason="fraudulent",
            status=status,
            evidence_due_at=None,
            opened_at=at("2026-11-10"),
            actor="test",
            now=site.now,
        )


def text_of(site: Site, invoice_id: UUID) -> str:
    text = site.text(f"/billing/invoices/{invoice_id}")
    assert SECRET not in text
    assert "agent@" not in text
    assert "fraudulent" not in text
    return text


def test_a_credit_note_before_payment_lowers_what_is_to_be_paid(site: Site, october: UUID) -> None:
    begin(site, october, "credit_note", "15.50")
    text = text_of(site, october)
    assert "Still to pay $24.50" in text
    assert "Pay $24.50" in text
    assert "Credit notes −$15.50" in text
    assert "To pay $24.50" in text
    assert "-C1 $15.50 less to pay −$15.50" in text
    assert "You owe $24.50 now" in site.text("/billing/")


def test_an_invoice_that_was_credited_wholly_reads_as_credited(site: Site, october: UUID) -> None:
    begin(site, october, "credit_note", "40")
    text = text_of(site, october)
    assert "October 2026 Credited This invoice was credited in full. You owe nothing on it." in text
    assert "October 2026" in site.text("/billing/invoices")
    assert "Credited $40.00" in site.text("/billing/invoices")
    assert "You owe" not in site.text("/billing/")


def test_a_refund_is_followed_from_its_beginning_to_its_arrival(site: Site, october: UUID) -> None:
    pay(site, october, "40")
    begin(site, october, "credit_note", "10.25", paid_part="refund")
    text = text_of(site, october)
    assert "Paid on Nov 4, 2026; $10.25 of it was credited." in text
    assert "$10.25 that you had paid goes back to you −$10.25" in text
    assert "Refund on its way This may take some days. −$10.25" in text
    settle(site, "succeeded")
    text = text_of(site, october)
    assert "Refunded Sent back to where the payment came from." in text
    assert "on its way" not in text
    settle(site, "failed")
    text = text_of(site, october)
    assert "Refund failed $10.25 did not reach you. We have your money" in text
    assert "internal words" not in text
    assert "paid in excess: $10.25" in site.text("/billing/"), "it is theirs, in sight"


def test_a_credit_note_that_became_void_counts_no_more(site: Site, october: UUID) -> None:
    """It was for a refund that somebody made at the provider, and that did not arrive."""
    pay(site, october, "40")
    foreign_refund(site, "10.25", "succeeded")
    assert "Paid on Nov 4, 2026; $10.25 of it was credited." in text_of(site, october)
    foreign_refund(site, "10.25", "failed")
    text = text_of(site, october)
    assert "it was credited" not in text
    assert "Credit note, void" in text
    assert "$10.25 were to go back to you and did not arrive. It does not count." in text
    assert "Refund failed $10.25 did not reach you: your bank sent them back to us." in text
    assert "paid in excess" not in site.text("/billing/")


def test_what_is_kept_is_told_as_credit(site: Site, october: UUID) -> None:
    pay(site, october, "40")
    begin(site, october, "credit_note", "4", paid_part="keep")
    assert "$4.00 that you had paid is credit for your next invoices −$4.00" in text_of(site, october)
    assert "Credits available $4.00" in site.text("/billing/")


def test_credits_come_back_as_credits(site: Site) -> None:
    customer_id = site.customer("acme")
    site.use("acme", "2026-10-03", "40")
    site.close("2026-11-01")
    with Session(site.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id,
            grant_id=uuid4(),
            account=accounts.CREDITS_PROMOTIONAL,
            amount=Decimal(100),
            reason="welcome",
            actor="test",
            now=site.now,
        )
    october = site.finalize("acme", "2026-10", on="2026-11-02")
    site.open("acme")
    begin(site, october, "credit_note", "7.50")
    assert "$7.50 is back among your credits −$7.50" in text_of(site, october)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("warning_needs_response", "Your bank asks about this payment."),
        ("needs_response", "Your bank looks into this payment."),
        ("lost", "Your bank took this payment back."),
        ("won", "Your bank decided that the payment stands."),
        ("prevented", "The question of your bank is settled."),
    ],
)
def test_a_dispute_is_noted(site: Site, october: UUID, status: str, said: str) -> None:
    pay(site, october, "40")
    dispute(site, october, status)
    with Session(site.engine) as session, session.begin():
        move_dispute_funds(
            session,
            customer_id=customer_id_for("acme"),
            provider="stripe",
            external_id="dp_1",
            transaction="txn_1",
            amount=Decimal(-40),
            fee=Decimal(15),
            at=site.now,
            actor="test",
            now=site.now,
        )
    text = text_of(site, october)
    assert f"Disputed {said}" in text
    is_lost = status == "lost"
    assert ("your bank took the payment back since." in text) is is_lost
    assert ("Thank you." in text) is not is_lost, "nobody is thanked for money that went back"
    assert ("Taken back" in site.text("/billing/invoices")) is is_lost
    assert "15" not in text.split("Disputed")[1].split("Times are in")[0].replace("2026", ""), "our fee is our own"


def test_a_void_invoice_leads_to_the_one_that_replaced_it(site: Site, october: UUID) -> None:
    begin(site, october, "void", then="rebill")
    assert "replaced" not in text_of(site, october), "nothing happened before the provider confirmed it"
    finish(site)
    text = text_of(site, october)
    assert "Cancelled This invoice was cancelled. You owe nothing on it." in text
    assert "It was replaced by another one, which is being prepared" in text
    page = site.get(f"/billing/invoices/{october}")
    other = page.split('It was replaced by <a href="')[1].split('"')[0]
    assert "October 2026 Being prepared" in site.text(other)
    assert "Pay" not in text.replace("Payment methods", "")


def test_a_void_for_good_has_no_successor(site: Site, october: UUID) -> None:
    begin(site, october, "void", then="give_up")
    finish(site)
    text = text_of(site, october)
    assert "Cancelled" in text
    assert "replaced" not in text


def test_what_was_given_up_can_still_be_paid(site: Site, october: UUID) -> None:
    begin(site, october, "write_off")
    finish(site)
    site.provider.pages[october] = "https://provider.test/invoice"
    text = text_of(site, october)
    assert "Unpaid" in text
    assert "Pay $40.00" in text
    assert site.client.get(f"/billing/invoices/{october}/payment").status_code == 303
    pay(site, october, "40")
    assert "Paid in full on Nov 4, 2026." in text_of(site, october)


def test_who_pays_by_transfer_reads_where_to_and_under_which_reference(site: Site) -> None:
    with Session(site.engine) as session, session.begin():
        create_customer(
            session,
            external_id="acme",
            name="acme",
            currency="USD",
            time_zone="UTC",
            provider="manual",
            actor="test",
            now=at("2026-01-01"),
        )
    site.provider.name = "manual"
    site.use("acme", "2026-10-03", "40")
    site.close("2026-11-01")
    october = site.finalize("acme", "2026-10", on="2026-11-02")
    site.open("acme")
    text = text_of(site, october)
    number = text.split("Number ")[1].split(" ")[0]
    assert f"Amount $40.00 Reference {number} To " in text
    for line in site.app.extensions["billing"].config.bank_details:
        assert line in text
    assert "Please transfer the amount to our bank account." in text
    for word in ("Pay $", "Stripe", "Payment methods", "Change payment method"):
        assert word not in text
    assert "How to pay" in site.text("/billing/")
    assert "How to pay" in site.text("/billing/invoices")
    site.get(f"/billing/invoices/{october}/payment", status=404)
    assert "You pay by bank transfer" in site.text("/billing/payment-methods", status=404)
    begin(site, october, "outside_payment", received_at="2026-11-09T00:00:00+00:00", reference="NTRF 1")
    text = text_of(site, october)
    assert "Paid in full on Nov 9, 2026." in text
    assert "How to pay" not in text
