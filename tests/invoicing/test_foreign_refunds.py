"""Refunds that somebody makes at the provider and that do not arrive: the books are as if they had never been made.

Every invoice here is acme's for June: 100 used, 100 due. The books below a test's name are the customer's after it.
"""

from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.movements.tables import CreditNote
from invoicing.movements.tasks import open_tasks
from tests.invoicing.conftest import Company
from tests.invoicing.desk import AGENT, NOW, Desk

D = Decimal


def notes(desk: Desk) -> list[CreditNote]:
    with Session(desk.engine, expire_on_commit=False) as session:
        return list(session.scalars(select(CreditNote).order_by(CreditNote.seq)))


@pytest.mark.parametrize("heard", [("pending",), ("succeeded",), ("pending", "succeeded"), ()], ids=" ".join)
@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_a_dashboard_refund_that_does_not_arrive_leaves_the_books_as_they_were(
    company: Company, heard: tuple[str, ...], end: str
) -> None:
    """stripe 100, income:usage 100: whether we heard of it in time or not. Its credit note keeps its number, void."""
    desk = Desk(company)
    desk.pay("100")
    before = desk.books()
    for status in (*heard, end, end):
        desk.foreign_refund("25", status=status)
    assert desk.books() == before
    assert [(note.number[-3:], note.is_void) for note in notes(desk)] == ([("-C1", True)] if heard else [])
    standing = desk.standing()
    assert (standing.credited, standing.cash_creditable, standing.unapplied) == (D(0), D(100), D(0))
    assert (desk.invoice().state, desk.invoice().amount_credited) == ("paid", D(0))
    assert desk.tasks() == ["refund_failed"]
    desk.check()
    # What it would have taken can be credited and sent back by the next one, which has the next number.
    desk.foreign_refund("100", external_id="re_next")
    assert [note.number[-3:] for note in notes(desk) if not note.is_void] == (["-C2"] if heard else ["-C1"])
    desk.check()


def test_a_dashboard_refund_of_unused_money_that_does_not_arrive_is_unused_money_again(company: Company) -> None:
    """stripe 120, unapplied 20, income:usage 100: of the 30 only 10 had been credited, and those are not any more."""
    desk = Desk(company)
    desk.pay("120")
    desk.foreign_refund("30")
    desk.foreign_refund("30", status="failed")
    assert desk.books() == {"assets:stripe": D(120), "liabilities:unapplied": D(20), "income:usage": D(100)}
    assert desk.standing().unapplied == D(20)
    desk.check()


def test_one_dashboard_refund_that_fails_takes_back_nothing_of_another(company: Company) -> None:
    """stripe 70, income:adjustments -30, income:usage 100."""
    desk = Desk(company)
    desk.pay("100")
    desk.foreign_refund("25")
    desk.foreign_refund("30", external_id="re_stands")
    desk.foreign_refund("25", status="failed")
    assert desk.books() == {"assets:stripe": D(70), "income:adjustments": D(-30), "income:usage": D(100)}
    assert [(note.amount, note.is_void) for note in notes(desk)] == [(D(25), True), (D(30), False)]
    desk.check()


def test_what_another_refund_was_credited_too_much_is_named_when_the_first_one_fails(company: Company) -> None:
    """stripe 90, unapplied 20, income:adjustments -30, income:usage 100: 20 of the 30 are to be charged again."""
    desk = Desk(company)
    desk.pay("120")
    desk.foreign_refund("20")
    desk.foreign_refund("30", external_id="re_stands")
    desk.foreign_refund("20", status="failed")
    assert desk.books() == {
        "assets:stripe": D(90), "liabilities:unapplied": D(20), "income:adjustments": D(-30), "income:usage": D(100),
    }  # fmt: skip
    with Session(desk.engine) as session:
        [task] = open_tasks(session)
    assert task.details["too_much"] == "20"
    assert "-C1 took back 20 USD too much" in task.text
    desk.check()


def test_what_was_kept_and_sent_back_too_is_credit_again_when_that_refund_fails(company: Company) -> None:
    """As before the refund: stripe 100, prepaid 40 less the 15 that an invoice used, which were a gift meanwhile."""
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "40", paid_part="keep")
    before = desk.books()
    desk.foreign_refund("100")
    assert desk.tasks() == ["refunded_twice"]
    desk.foreign_refund("100", status="failed")
    assert desk.books() == before
    assert desk.tasks() == ["refund_failed"]
    assert [(note.amount, note.is_void) for note in notes(desk)] == [(D(40), False), (D(60), True)]
    desk.check()


def test_a_gift_that_was_made_good_by_no_refund_is_none(company: Company) -> None:
    """The kept 40 were used by July's invoice; sent back as well they were a gift, until that refund failed."""
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "40", paid_part="keep")
    company.use("acme", "2025-07-03", "90")
    company.close("2025-08-01")
    company.finalize("acme", "2025-07", on="2025-08-02")
    before = desk.books()
    assert before["assets:receivable"] == D(50)
    desk.foreign_refund("100")
    desk.foreign_refund("100", status="failed")
    assert desk.books() == before
    desk.check()


def test_money_that_somebody_moved_by_hand_is_never_taken_back_twice(company: Company) -> None:
    """unapplied 10 of 25: less than the credit note's, so that stands, and a person is told of the 15 that are gone."""
    desk = Desk(company)
    desk.pay("100")
    desk.foreign_refund("25")
    with Session(desk.engine) as session, session.begin():
        booking = Booking(desk.customer_id, source="test", event_id="hand", kind="refund", at=NOW, actor=AGENT)
        booking.move("hand", D(15), debit="liabilities:unapplied", credit="assets:bank", document_id=desk.invoice_id)
        booking.post(session, now=NOW)
    desk.foreign_refund("25", status="failed")
    assert desk.books()["liabilities:unapplied"] == D(10)
    (note,) = notes(desk)
    assert not note.is_void
    with Session(desk.engine) as session:
        (task,) = open_tasks(session)
    assert task.details["missing"] == "15"
    assert f"15 USD of it are not among the customer's unused money any more, so credit note {note.number}" in task.text
    desk.check()


def test_our_own_refund_that_fails_keeps_its_credit_note(company: Company) -> None:
    """The customer was promised that money: it is theirs, unapplied, until somebody sends it in another way."""
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "40", paid_part="refund")
    (refund,) = desk.refunds()
    desk.settle(refund, "failed")
    assert [note.is_void for note in notes(desk)] == [False]
    assert desk.books()["liabilities:unapplied"] == D(40)
    desk.check()
