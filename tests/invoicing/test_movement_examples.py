"""One worked example for each thing that happens to a final invoice: the entries, the balances, the invoice.

Every invoice here is acme's for June: 100 used, 100 due, unless it says otherwise. The books below each test's name are
what the customer's books say after it; `assets:` and `expenses:` are debits, the others credits.
"""

from datetime import timedelta
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.drafts import lines_of
from invoicing.finalization import finalize
from invoicing.movements.tables import CreditNote
from invoicing.provider import (
    CreditNoteOrder,
    EndOrder,
    RefundOrder,
)
from tests.invoicing.conftest import Company
from tests.invoicing.desk import NOW, Desk

D = Decimal


def notes(desk: Desk) -> list[CreditNote]:
    with Session(desk.engine, expire_on_commit=False) as session:
        return list(session.scalars(select(CreditNote).order_by(CreditNote.seq)))


def test_a_credit_note_before_payment_lowers_what_is_open(company: Company) -> None:
    """receivable 70, income:adjustments -30, income:usage 100."""
    desk = Desk(company)
    asked = desk.ask("credit_note", "30")
    assert desk.since(2) == [("credit_note", "income:adjustments", "assets:receivable", "30")]
    invoice = desk.invoice()
    assert (invoice.state, invoice.open, invoice.amount_credited) == ("final", D(70), D(30))
    (note,) = notes(desk)
    assert (note.number, note.unpaid_part, note.cash_part) == (f"{invoice.number}-C1", D(30), D(0))
    order = company.remembered.asked[note.id]
    assert isinstance(order, CreditNoteOrder)
    assert (order.amount, order.unpaid_part, order.refund_ids) == (D(30), D(30), ())
    assert desk.done(asked, "cn_1")
    assert desk.movement(asked).external_id == "cn_1"
    desk.pay("70")
    assert desk.invoice().state == "paid"
    assert desk.books() == {"assets:stripe": D(70), "income:adjustments": D(-30), "income:usage": D(100)}
    desk.check()


def test_a_credit_note_over_everything_that_is_open_settles_the_invoice(company: Company) -> None:
    """income:adjustments -100, income:usage 100."""
    desk = Desk(company)
    desk.ask("credit_note", "100")
    assert (desk.invoice().state, desk.invoice().amount_paid) == ("paid", D(0))
    desk.pay("100")
    assert desk.books()["liabilities:unapplied"] == D(100)
    desk.check()


def test_a_credit_note_after_payment_is_sent_back_once_stripe_did(company: Company) -> None:
    """stripe 60, income:adjustments -40, income:usage 100."""
    desk = Desk(company)
    desk.pay("100")
    asked = desk.ask("credit_note", "40", paid_part="refund")
    (refund,) = desk.refunds()
    assert isinstance(company.remembered.asked[refund.id], RefundOrder)
    order = company.remembered.asked[notes(desk)[0].id]
    assert isinstance(order, CreditNoteOrder)
    assert (order.amount, order.unpaid_part, order.refund_ids) == (D(40), D(0), (refund.id,))
    assert desk.since(3) == [("credit_note", "income:adjustments", "liabilities:unapplied", "40")]
    assert [desk.settle(refund, status) for status in ("pending", "succeeded", "succeeded", "pending")] == [
        True,
        True,
        False,
        False,
    ]
    desk.done(asked)
    assert desk.since(4) == [("refund", "liabilities:unapplied", "assets:stripe", "40")]
    assert desk.books() == {"assets:stripe": D(60), "income:adjustments": D(-40), "income:usage": D(100)}
    desk.check()


def test_a_credit_note_takes_the_unpaid_part_first_then_cash_then_credits_and_each_gets_its_own_back(
    company: Company,
) -> None:
    """100 used: 10 promotional, 20 goodwill paid, 70 due, 50 of it paid, 20 open. All credited, cash kept."""
    desk = Desk(company, credit={"promotional": "10", "goodwill": "20"})
    desk.pay("50")
    desk.ask("credit_note", "75", paid_part="keep")
    assert desk.since(7) == [
        ("credit_note", "income:adjustments", "assets:receivable", "20"),
        ("credit_note", "income:adjustments", "liabilities:unapplied", "50"),
        ("credit_note", "income:adjustments", "liabilities:credits:goodwill", "5"),
        ("credit_note", "liabilities:unapplied", "liabilities:credits:prepaid", "50"),
    ]
    desk.ask("credit_note", "25")
    books = desk.books()
    assert books["liabilities:credits:promotional"] == D(10)
    assert books["liabilities:credits:goodwill"] == D(20)
    assert books["liabilities:credits:prepaid"] == D(50)
    assert "liabilities:unapplied" not in books
    assert desk.standing().creditable == 0
    desk.check()


def test_a_refund_that_fails_late_is_the_customers_money_again_and_a_person_is_told(company: Company) -> None:
    """stripe 100, unapplied 40, income:adjustments -40, income:usage 100; then sent back again, by another refund."""
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "40", paid_part="refund")
    (refund,) = desk.refunds()
    desk.settle(refund, "succeeded")
    assert desk.settle(refund, "failed")
    assert not desk.settle(refund, "succeeded")
    assert desk.since(5) == [("refund", "assets:stripe", "liabilities:unapplied", "40")]
    assert desk.books()["liabilities:unapplied"] == D(40)
    assert desk.tasks() == ["refund_failed"]
    again = desk.ask("refund_unapplied")
    other = next(refund for refund in desk.refunds() if refund.movement_id == again.id)
    assert (other.amount, other.state) == (D(40), "requested")
    desk.settle(other, "succeeded")
    assert desk.movement(again).state == "done"
    assert desk.books() == {"assets:stripe": D(60), "income:adjustments": D(-40), "income:usage": D(100)}
    desk.check()


def test_what_was_paid_too_much_is_kept_as_credit_if_the_customer_says_so(company: Company) -> None:
    """stripe 120, credits:prepaid 20, income:usage 100."""
    desk = Desk(company)
    desk.pay("120")
    kept = desk.ask("keep_unapplied", "20")
    assert kept.state == "done"
    assert desk.since(4) == [("refund", "liabilities:unapplied", "liabilities:credits:prepaid", "20")]
    desk.check()


def test_a_refund_made_in_the_dashboard_books_its_credit_note_first(company: Company) -> None:
    """stripe 75, income:adjustments -25, income:usage 100."""
    desk = Desk(company)
    desk.pay("100")
    first = desk.foreign_refund("25", status="pending")
    assert desk.foreign_refund("25", status="succeeded").id == first.id
    desk.foreign_refund("25", status="succeeded")
    assert desk.since(3) == [
        ("credit_note", "income:adjustments", "liabilities:unapplied", "25"),
        ("refund", "liabilities:unapplied", "assets:stripe", "25"),
    ]
    (note,) = notes(desk)
    assert (note.amount, note.cash_part, note.movement_id) == (D(25), D(25), None)
    desk.check()


def test_a_dashboard_refund_of_what_was_paid_too_much_needs_no_credit_note(company: Company) -> None:
    """stripe 90, income:adjustments -10, income:usage 100: 20 were too much, 30 were sent back."""
    desk = Desk(company)
    desk.pay("120")
    desk.foreign_refund("30")
    assert [note.amount for note in notes(desk)] == [D(10)]
    assert desk.books() == {"assets:stripe": D(90), "income:adjustments": D(-10), "income:usage": D(100)}
    desk.check()


def test_money_kept_as_credit_and_sent_back_in_the_dashboard_too_is_taken_back_while_it_lasts(
    company: Company,
) -> None:
    """stripe 0, income:adjustments -100, income:usage 100: the kept 40 are no credit any more."""
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "40", paid_part="keep")
    desk.foreign_refund("100")
    assert desk.tasks() == ["refunded_twice"]
    assert desk.books() == {"income:adjustments": D(-100), "income:usage": D(100)}
    desk.check()


def test_a_void_invoice_is_reversed_to_the_last_entry_and_billed_again_from_its_charges(company: Company) -> None:
    """Void: unbilled 100.004, credits back. Billed again: receivable 80, credits used again, a new number."""
    desk = Desk(company, used="100.004", credit={"goodwill": "20"})
    before = desk.invoice()
    asked = desk.ask("void", then="rebill")
    assert isinstance(company.remembered.asked[asked.id], EndOrder)
    assert desk.since(5) == []
    assert desk.done(asked)
    assert not desk.done(asked)
    assert desk.since(5) == [
        ("void", "assets:receivable", "liabilities:credits:goodwill", "20"),
        ("void", "assets:unbilled", "assets:receivable", "100"),
        ("void", "assets:unbilled", "income:rounding", "0.004"),
    ]
    void, draft = desk.invoices()
    assert (void.state, draft.state, draft.generation) == ("void", "draft", 2)
    assert draft.finalize_after == NOW + timedelta(hours=24)
    assert desk.books()["liabilities:credits:goodwill"] == D(20)
    with Session(desk.engine) as session:
        assert [line.amount for line in lines_of(session, customer_id=desk.customer_id, invoice_id=draft.id)] == [
            D("100.004")
        ]
    desk.check()
    with Session(desk.engine) as session, session.begin():
        finalize(
            session,
            customer_id=desk.customer_id,
            invoice_id=draft.id,
            provider=company.provider,
            actor="test",
            now=NOW,
        )
    again = desk.invoices()[1]
    assert (again.state, again.amount_due) == ("final", D(80))
    assert again.number != before.number
    desk.check()


def test_a_void_invoice_that_is_given_up_leaves_nothing(company: Company) -> None:
    """income:adjustments -100, income:usage 100."""
    desk = Desk(company)
    desk.done(desk.ask("void", then="give_up"))
    assert desk.since(2) == [
        ("void", "assets:unbilled", "assets:receivable", "100"),
        ("void", "income:adjustments", "assets:unbilled", "100"),
    ]
    assert desk.books() == {"income:adjustments": D(-100), "income:usage": D(100)}
    assert [invoice.state for invoice in desk.invoices()] == ["void"]
    desk.pay("100")
    assert desk.tasks() == ["paid_after_void"]
    desk.ask("refund_unapplied")
    desk.check()


def test_what_was_given_up_and_is_paid_after_all_is_no_bad_debt(company: Company) -> None:
    """Written off: bad_debt 100. 30 arrive: stripe 30, bad_debt 70. 80 more: stripe 110, unapplied 10, bad_debt 0."""
    desk = Desk(company)
    desk.done(desk.ask("write_off"))
    assert desk.since(2) == [("write_off", "expenses:bad_debt", "assets:receivable", "100")]
    assert desk.invoice().state == "uncollectible"
    desk.check()
    desk.pay("30", "inpay_1")
    assert desk.since(3) == [
        ("write_off", "assets:receivable", "expenses:bad_debt", "100"),
        ("write_off", "expenses:bad_debt", "assets:receivable", "70"),
        ("cash", "assets:stripe", "assets:receivable", "30"),
    ]
    assert (desk.invoice().state, desk.books()["expenses:bad_debt"]) == ("uncollectible", D(70))
    desk.check()
    desk.pay("80", "inpay_2")
    assert desk.books() == {"assets:stripe": D(110), "liabilities:unapplied": D(10), "income:usage": D(100)}
    assert desk.invoice().state == "paid"
    desk.check()


def test_what_was_given_up_can_still_be_made_void(company: Company) -> None:
    """unbilled 100 on a new draft, income:usage 100: the bad debt is reversed first."""
    desk = Desk(company)
    desk.done(desk.ask("write_off"))
    desk.done(desk.ask("void", then="rebill"))
    assert desk.since(3)[0] == ("void", "assets:receivable", "expenses:bad_debt", "100")
    assert desk.books() == {"assets:unbilled": D(100), "income:usage": D(100)}
    desk.check()
