"""Whoever clicks on an entry of a refund, a dispute or a void invoice is told in a sentence what it is about."""

from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.explaining.answers import EntryExplained, InvoiceExplained, explain, explain_one_entry
from invoicing.movements.payouts import record_payout
from invoicing.movements.tables import CreditNote
from ledger.tables import Entry
from tests.invoicing.conftest import Company
from tests.invoicing.desk import NOW, Desk


def causes(desk: Desk) -> list[str]:
    """The sentence of every entry, in order."""
    with Session(desk.engine) as session:
        ids = session.scalars(select(Entry.id).where(Entry.customer_id == desk.customer_id).order_by(Entry.seq)).all()
        found = [explain_one_entry(session, customer_id=desk.customer_id, entry_id=entry_id) for entry_id in ids]
        assert all(explained.invoice is not None for explained in found)
        return [explained.cause for explained in found]


def told(desk: Desk, what: str) -> str:
    with Session(desk.engine) as session:
        found = explain(session, what=what)
        assert isinstance(found, EntryExplained)
        return found.cause


def test_entries_of_credit_notes_and_refunds_say_who_wanted_them_and_why(company: Company) -> None:
    desk = Desk(company)
    desk.pay("60")
    desk.ask("credit_note", "50", paid_part="refund", reason="Down all Monday")
    (refund,) = desk.refunds()
    desk.settle(refund, "succeeded", "re_1")
    desk.settle(refund, "failed", "re_1")
    number = desk.invoice().number
    note = f"Credit note {number}-C1 by agent@demo.test for invoice {number}:"
    assert causes(desk)[3:] == [
        f"{note} what was still open is no longer owed. Down all Monday",
        f"{note} what was paid is the customer's money again. Down all Monday",
        f"Refund re_1 of payment inpay_1 for invoice {number}, asked for by agent@demo.test: Down all Monday",
        "Refund re_1 did not arrive: The card is closed. The money came back.",
    ]
    assert told(desk, f"{number}-C1").startswith(note)
    assert told(desk, "re_1").startswith("Refund re_1 of payment inpay_1")
    with Session(desk.engine) as session:
        note_id = session.scalars(select(CreditNote.id)).one()
    assert told(desk, str(note_id)).startswith(note)
    assert told(desk, str(refund.id)).startswith("Refund re_1")


def test_a_credit_note_that_only_lowered_what_was_open_is_found_by_its_number(company: Company) -> None:
    desk = Desk(company)
    asked = desk.ask("credit_note", "50")
    number = desk.invoice().number
    assert told(desk, f"{number}-C1").endswith("what was still open is no longer owed. Agreed by phone")
    with Session(desk.engine) as session:
        found = explain(session, what=str(asked.id))
        assert isinstance(found, InvoiceExplained)


def test_entries_of_a_dispute_say_how_it_went(company: Company) -> None:
    desk = Desk(company)
    desk.pay("100")
    desk.dispute("needs_response")
    desk.dispute_funds("txn_1", "-100", "15")
    desk.dispute("lost")
    desk.dispute("won")
    desk.dispute_funds("txn_2", "100")
    start = f"Dispute dp_1 of payment inpay_1 for invoice {desk.invoice().number} (fraudulent): "
    assert [cause.removeprefix(start) for cause in causes(desk)[3:]] == [
        "its money was withdrawn.",
        "its fee.",
        "it is lost.",
        "the loss booked before does not stand.",
        "its money was given back.",
    ]
    assert told(desk, "dp_1").startswith(start)


def test_a_void_invoice_is_explained_although_its_charges_are_given_up(company: Company) -> None:
    desk = Desk(company)
    desk.done(desk.ask("write_off"))
    desk.done(desk.ask("void", then="give_up", reason="Sent to the wrong company."))
    number = desk.invoice().number
    assert causes(desk)[3:] == [f"Invoice {number} was made void: Sent to the wrong company."] * 3
    with Session(desk.engine) as session:
        found = explain(session, what=number or "")
        assert isinstance(found, InvoiceExplained)
        receivable = next(part for part in found.parts if part.title.startswith("What the customer owes"))
        assert receivable.explanation.total == 0


def test_an_invoice_shows_what_happened_to_it(company: Company) -> None:
    desk = Desk(company)
    desk.pay("100")
    desk.ask("credit_note", "30", paid_part="refund")
    desk.settle(desk.refunds()[0], "succeeded", "re_1")
    desk.dispute("needs_response")
    desk.dispute_funds("txn_1", "-100", "15")
    number = desk.invoice().number
    with Session(desk.engine) as session:
        found = explain(session, what=number or "")
    assert isinstance(found, InvoiceExplained)
    assert [part.title for part in found.parts][-3:] == [
        f"Credit note {number}-C1: what had been paid",
        "Refund re_1 (succeeded)",
        "Dispute dp_1 (needs response)",
    ]


def test_a_payout_is_found_by_what_the_provider_calls_it(company: Company) -> None:
    desk = Desk(company)
    with Session(desk.engine) as session, session.begin():
        record_payout(
            session,
            provider="stripe",
            account="acct_1",
            currency="USD",
            external_id="po_1",
            amount=Decimal(100),
            status="paid",
            arrival_at=None,
            at=NOW,
            actor="stripe",
            now=NOW,
        )
    assert told(desk, "po_1") == "Payout po_1 of 100 USD from stripe to the bank."
