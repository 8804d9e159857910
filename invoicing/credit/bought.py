"""Bought credit: the lot that a top-up sold shrinks and grows with what is owed for it after the invoice is final."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.lots import CREDIT_LOTS, write_use
from invoicing.movements.tables import CreditNote, Dispute, Task
from invoicing.movements.tasks import SYSTEM, open_task, resolve_gone
from invoicing.tables import CreditUse, Invoice
from ledger import accounts
from ledger.entries import entry_id
from ledger.money import plain
from ledger.tables import TOTALS

USED = "credit_used_unpaid"
"""The kind of task that says what was used of credit whose money went back."""


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


def follow_money_gone(
    session: Session, invoice: Invoice, *, at: datetime, actor: str, reason: str, now: datetime
) -> None:
    """Make a top-up's lot say what follows from money that went back: its credit notes and its lost disputes.

    As much of the lot is gone as went back, as far as it is left: for credit notes first, from where they took it; what
    is left after them for losses, which are none as far as nothing was delivered. It follows from what stands now and
    not from the order in which it became known, so a credit note that becomes void, a late win, and credit that comes
    back from an invoice made void, are all settled by asking again. What was used up before is a task for a person.
    Does nothing for other invoices. The caller holds the books' lock and commits.
    """
    if invoice.kind != "top_up":
        return
    gone = money_gone(session, invoice)
    booking = Booking(
        invoice.customer_id,
        source="invoicing:top_up:money_gone",
        # The lock of the books keeps the count what it is until this is written.
        event_id=f"{invoice.id}:{_count_uses(session, invoice)}",
        kind="grant",
        at=at,
        actor=actor,
        reason=reason,
    )
    legs = [
        ("credited", gone.credited - gone.taken_for_credited, accounts.ADJUSTMENTS),
        ("lost", gone.lost - gone.taken_for_lost, accounts.CHARGEBACKS),
    ]
    for leg, amount, contra in legs:
        booking.move(leg, amount, debit=accounts.CREDITS_PREPAID, credit=contra, document_id=invoice.id)
    booking.post(session, now=now)
    for leg, amount, _ in sorted(legs, key=lambda leg: leg[1]):  # what comes back first: the other may need it
        if amount:
            write_use(
                session,
                customer_id=invoice.customer_id,
                grant_id=invoice.id,
                kind="revoked" if amount > 0 else "returned",
                amount=abs(amount),
                entry=entry_id(booking.transaction_id, leg),
                at=at,
                actor=actor,
                invoice_id=invoice.id,
                reason=reason[:2000],
            )
    _tell(session, invoice, gone, now=now)


def follow_returned(
    session: Session, invoice: Invoice, *, at: datetime, actor: str, reason: str, now: datetime
) -> None:
    """An invoice was made void and gave lots back what it took: money of theirs that went back is due again."""
    top_ups = session.scalars(
        select(Invoice)
        .join(CreditUse, (CreditUse.customer_id == Invoice.customer_id) & (CreditUse.grant_id == Invoice.id))
        .where(
            CreditUse.customer_id == invoice.customer_id,
            CreditUse.invoice_id == invoice.id,
            CreditUse.kind == "returned",
            Invoice.id != invoice.id,
        )
        .distinct()
        .order_by(Invoice.id)
    ).all()
    for bought in top_ups:
        follow_money_gone(session, bought, at=at, actor=actor, reason=reason, now=now)


@dataclass(frozen=True, slots=True)
class MoneyGone:
    """What went back of a top-up's money and what its lot has to lose for that, in major units."""

    credited: Decimal
    """What the lot owes to credit notes, as far as it is left."""
    taken_for_credited: Decimal
    lost: Decimal
    """What it owes to lost disputes, as far as anything is left after the credit notes."""
    taken_for_lost: Decimal
    missing: Decimal
    """What went back and cannot be taken: it was used, or it expired."""
    used: Decimal
    """What invoices took of the lot and keep."""

    @property
    def given_away(self) -> Decimal:
        """What the customer used and nobody paid for."""
        return min(self.missing, self.used)


def money_gone(session: Session, invoice: Invoice) -> MoneyGone:
    """What the lot of a top-up owes to money that went back, as the session sees it. Writes nothing."""
    key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
    credited: Decimal = session.scalar(
        select(func.coalesce(func.sum(CreditNote.amount), 0)).filter_by(**key).where(CreditNote.voided_at.is_(None))
    ) or Decimal(0)
    lost: Decimal = session.scalar(
        select(func.coalesce(func.sum(func.greatest(Dispute.withdrawn - Dispute.reinstated, 0)), 0))
        .filter_by(**key)
        .where(Dispute.status == "lost")
    ) or Decimal(0)
    taken_for_credited = _taken(session, invoice, accounts.ADJUSTMENTS)
    taken_for_lost = _taken(session, invoice, accounts.CHARGEBACKS)
    there = left_of(session, invoice) + taken_for_credited + taken_for_lost
    owes_credited = min(there, credited)
    owes_lost = min(there - owes_credited, lost)
    sign = case((CreditUse.kind == "returned", -CreditUse.amount), else_=CreditUse.amount)
    used: Decimal = session.scalar(
        select(func.coalesce(func.sum(sign), 0)).where(
            CreditUse.customer_id == invoice.customer_id,
            CreditUse.grant_id == invoice.id,
            CreditUse.kind.in_(("applied", "returned")),
            CreditUse.invoice_id != invoice.id,
        )
    ) or Decimal(0)
    return MoneyGone(
        credited=owes_credited,
        taken_for_credited=taken_for_credited,
        lost=owes_lost,
        taken_for_lost=taken_for_lost,
        missing=credited + lost - owes_credited - owes_lost,
        used=used,
    )


def _taken(session: Session, invoice: Invoice, contra: str) -> Decimal:
    """What the lot lost to this account and did not get back: only what follows money is moved between the two."""
    moved = TOTALS.c
    amount = case((moved.debit_account == accounts.CREDITS_PREPAID, moved.amount), else_=-moved.amount)
    return session.scalar(
        select(func.coalesce(func.sum(amount), 0)).where(
            moved.customer_id == invoice.customer_id,
            moved.document_id == invoice.id,
            or_(
                and_(moved.debit_account == accounts.CREDITS_PREPAID, moved.credit_account == contra),
                and_(moved.debit_account == contra, moved.credit_account == accounts.CREDITS_PREPAID),
            ),
        )
    ) or Decimal(0)


def _count_uses(session: Session, invoice: Invoice) -> int:
    return (
        session.scalar(
            select(func.count()).where(CreditUse.customer_id == invoice.customer_id, CreditUse.grant_id == invoice.id)
        )
        or 0
    )


def _tell(session: Session, invoice: Invoice, gone: MoneyGone, *, now: datetime) -> None:
    """What was used and is not paid for is a task, once for each amount; it is gone when nothing of it is left."""
    subject = str(invoice.id)
    if gone.given_away == 0:
        resolve_gone(session, kind=USED, subject=subject, cause="What was used is paid for.", now=now)
        return
    amount = f"{plain(gone.given_away)} {invoice.currency}"
    last = session.scalar(
        select(Task).where(Task.kind == USED, Task.subject == subject).order_by(Task.opened_at.desc()).limit(1)
    )
    if last is not None and last.details["used"] == plain(gone.given_away) and last.resolved_by != SYSTEM:
        return  # somebody knows of it, or has settled it
    open_task(
        session,
        kind=USED,
        subject=subject,
        title=f"{amount} of credit were used, and the money for them went back",
        text=f"Invoice {invoice.number} sold prepaid credit; its payment was refunded or taken back by the bank. What "
        f"was left of the credit is gone with it, but {amount} had paid for usage before. They are our loss unless the "
        "customer pays them: charge them on the next draft, or settle it with the customer.",
        cause=f"money of invoice {invoice.number} went back",
        now=now,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        details={"used": plain(gone.given_away), "missing": plain(gone.missing)},
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
