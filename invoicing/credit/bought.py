"""Bought credit: the lot that a top-up sold shrinks and grows with what is owed for it after the invoice is final."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.lots import CREDIT_LOTS, write_use
from invoicing.tables import Invoice
from ledger import accounts
from ledger.entries import entry_id, transaction_id
from ledger.tables import Entry

_CREDITED = "invoicing:top_up:credited"


def left_of(session: Session, invoice: Invoice) -> Decimal:
    """What is left of the lot that a top-up sold, in major units."""
    view = CREDIT_LOTS.c
    left = session.scalar(select(view.remaining).where(view.customer_id == invoice.customer_id, view.id == invoice.id))
    return Decimal(left or 0)


def take_unpaid_part(
    session: Session,
    invoice: Invoice,
    amount: Decimal,
    *,
    event_id: str,
    at: datetime,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """A top-up is given up with `amount` open: that much of its lot is gone, and no loss is left of it.

    Does nothing for other invoices. The caller commits.
    """
    _move(
        session,
        invoice,
        amount,
        kind="revoked",
        source="invoicing:top_up:given_up",
        event_id=event_id,
        contra=accounts.BAD_DEBT,
        at=at,
        actor=actor,
        reason=reason,
        now=now,
    )


def give_paid_part(
    session: Session, invoice: Invoice, amount: Decimal, *, event_id: str, at: datetime, actor: str, now: datetime
) -> None:
    """A top-up that was given up is paid after all, by `amount`: that much of its lot is there again.

    Does nothing for other invoices. The caller commits.
    """
    _move(
        session,
        invoice,
        -amount,
        kind="returned",
        source="invoicing:top_up:paid_after_all",
        event_id=event_id,
        contra=accounts.BAD_DEBT,
        at=at,
        actor=actor,
        reason="Paid after all",
        now=now,
    )


def take_credited_part(
    session: Session,
    invoice: Invoice,
    amount: Decimal,
    *,
    event_id: str,
    at: datetime,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """A credit note over `amount` of a top-up was issued: that much of its lot is gone, or what is left of it.

    What the credit note took from income it gives back there, since a top-up had earned nothing. Does nothing for other
    invoices. The caller commits.
    """
    if invoice.kind == "top_up":
        amount = min(amount, left_of(session, invoice))
        _move(
            session,
            invoice,
            amount,
            kind="revoked",
            source=_CREDITED,
            event_id=event_id,
            contra=accounts.ADJUSTMENTS,
            at=at,
            actor=actor,
            reason=reason,
            now=now,
        )


def give_credited_part(
    session: Session, invoice: Invoice, *, event_id: str, at: datetime, actor: str, reason: str, now: datetime
) -> None:
    """The credit note is void, since its refund did not arrive: what it took of the lot is there again."""
    if invoice.kind != "top_up":
        return
    taken = session.get(Entry, (invoice.customer_id, entry_id(transaction_id(_CREDITED, event_id), "lot")))
    if taken is None:
        return  # nothing was left of the lot that it could have taken
    booking = Booking(
        invoice.customer_id,
        source=f"{_CREDITED}:void",
        event_id=event_id,
        kind="grant",
        at=at,
        actor=actor,
        reason=reason,
    )
    booking.take_back(taken)
    booking.post(session, now=now)
    write_use(
        session,
        customer_id=invoice.customer_id,
        grant_id=invoice.id,
        kind="returned",
        amount=taken.amount,
        entry=entry_id(booking.transaction_id, f"reversal:{taken.id}"),
        at=at,
        actor=actor,
        invoice_id=invoice.id,
        reason=reason[:2000],
    )


def _move(
    session: Session,
    invoice: Invoice,
    amount: Decimal,
    *,
    kind: str,
    source: str,
    event_id: str,
    contra: str,
    at: datetime,
    actor: str,
    reason: str,
    now: datetime,
) -> None:
    """Take `amount` out of the lot against `contra`; a negative amount gives it back."""
    if invoice.kind != "top_up" or amount == 0:
        return
    booking = Booking(
        invoice.customer_id, source=source, event_id=event_id, kind="grant", at=at, actor=actor, reason=reason
    )
    booking.move("lot", amount, debit=accounts.CREDITS_PREPAID, credit=contra, document_id=invoice.id)
    booking.post(session, now=now)
    write_use(
        session,
        customer_id=invoice.customer_id,
        grant_id=invoice.id,
        kind=kind,
        amount=abs(amount),
        entry=entry_id(booking.transaction_id, "lot"),
        at=at,
        actor=actor,
        invoice_id=invoice.id,
        reason=reason[:2000],
    )
