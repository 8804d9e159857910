"""Credit notes: part of a final invoice taken back, with a number of its own."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.bought import follow_money_gone, left_of
from invoicing.history import record
from invoicing.movements.refusals import AmountTooLarge, MovementNotPossible
from invoicing.movements.standing import Standing, standing_of
from invoicing.movements.tables import CreditNote
from invoicing.tables import Invoice
from invoicing.tax.credits import give_back
from ledger import accounts
from ledger.documents import open_documents
from ledger.entries import transaction_id
from ledger.money import plain
from ledger.tables import TOTALS, Entry

ISSUED = "invoicing:credit_note"
"""The source of a credit note's entries."""


@dataclass(frozen=True, slots=True)
class Split:
    """What a credit note takes back, in major units: what is open first, then cash, then the customer's credits."""

    unpaid: Decimal
    cash: Decimal
    credits: dict[str, Decimal] = field(default_factory=dict)
    """By account, in the order in which they get it back: what was paid for first, what was given away last."""

    @property
    def credits_total(self) -> Decimal:
        return sum(self.credits.values(), Decimal(0))


def split_of(session: Session, standing: Standing, amount: Decimal, *, cash_only: bool = False) -> Split:
    """How a credit note over `amount` would be made up. Writes nothing.

    With `cash_only` nothing but what cash paid is taken back: the money has left already.

    Raises:
        AmountTooLarge: it is more than what is left of the invoice.
    """
    possible = standing.cash_creditable if cash_only else standing.creditable
    if amount > possible:
        raise AmountTooLarge(
            f"{plain(possible)} {standing.invoice.currency} are left of invoice {standing.invoice.number} to credit; "
            f"{plain(amount)} are too much."
        )
    if standing.invoice.kind == "top_up" and not cash_only:
        left = left_of(session, standing.invoice)
        if amount > left:
            raise AmountTooLarge(
                f"{plain(left)} {standing.invoice.currency} are left of the credit that invoice "
                f"{standing.invoice.number} sold; what was used cannot be taken back. Credit at most that, or the "
                "invoice on which it was used."
            )
    unpaid = Decimal(0) if cash_only else min(amount, standing.open)
    cash = min(amount - unpaid, standing.cash_creditable)
    left = amount - unpaid - cash
    returned: dict[str, Decimal] = {}
    if left:
        paid = _paid_by_credits(session, standing.invoice)
        for account in reversed(accounts.CREDITS):
            take = min(left, paid.get(account, Decimal(0)))
            if take > 0:
                returned[account] = take
                left -= take
    if left:
        raise AssertionError(f"{left} of invoice {standing.invoice.id} were paid by nobody")
    return Split(unpaid, cash, returned)


def _paid_by_credits(session: Session, invoice: Invoice) -> dict[str, Decimal]:
    """What each kind of credit paid of this invoice and did not get back yet."""
    notes = select(CreditNote.id).where(
        CreditNote.customer_id == invoice.customer_id,
        CreditNote.invoice_id == invoice.id,
        CreditNote.voided_at.is_(None),
    )
    moved = TOTALS.c
    rows = session.execute(
        select(moved.debit_account, func.sum(moved.amount))
        .where(
            moved.customer_id == invoice.customer_id,
            moved.document_id == invoice.id,
            moved.debit_account.in_(accounts.CREDITS),
            moved.credit_account == accounts.RECEIVABLE,
        )
        .group_by(moved.debit_account)
    )
    paid: dict[str, Decimal] = {row[0]: row[1] for row in rows}
    returned = session.execute(
        select(moved.credit_account, func.sum(moved.amount))
        .where(
            moved.customer_id == invoice.customer_id,
            moved.document_id.in_(notes),
            moved.credit_account.in_(accounts.CREDITS),
            moved.debit_account == accounts.ADJUSTMENTS,
        )
        .group_by(moved.credit_account)
    )
    for account, amount in returned:
        paid[account] -= amount
    return paid


def credit_notes_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[CreditNote]:
    """The credit notes of an invoice, in order; void ones as well, since they have their numbers."""
    return list(
        session.scalars(
            select(CreditNote)
            .where(CreditNote.customer_id == customer_id, CreditNote.invoice_id == invoice_id)
            .order_by(CreditNote.seq)
        )
    )


def issue(
    session: Session,
    *,
    invoice: Invoice,
    credit_note_id: UUID,
    movement_id: UUID | None,
    amount: Decimal,
    disposition: str,
    reason: str,
    actor: str,
    at: datetime,
    now: datetime,
    cash_only: bool = False,
) -> CreditNote:
    """Give the credit note its number and post it. The caller holds `lock_invoice` and commits.

    `amount` is above 0, in major units, in whole minor units, with tax: its part of each tax is owed no more. What was
    open is no longer owed; what cash had paid is the customer's, unapplied, or with `disposition` "keep" prepaid
    credit; what credits had paid they get back, the promotional ones as promotional. The same id again returns the
    first one. An invoice of which nothing is open afterwards is paid.

    Raises:
        AmountTooLarge, MovementNotPossible.
    """
    known = session.get(CreditNote, (invoice.customer_id, credit_note_id))
    if known is not None:
        return known
    if invoice.state not in ("final", "paid", "uncollectible"):
        raise MovementNotPossible(f"Invoice {invoice.number or invoice.id} is {invoice.state}: nothing to credit.")
    split = split_of(session, standing_of(session, invoice), amount, cash_only=cash_only)
    seq = 1 + (
        session.scalar(
            select(func.count()).where(
                CreditNote.customer_id == invoice.customer_id, CreditNote.invoice_id == invoice.id
            )
        )
        or 0
    )
    note = CreditNote(
        customer_id=invoice.customer_id,
        id=credit_note_id,
        invoice_id=invoice.id,
        movement_id=movement_id,
        seq=seq,
        number=f"{invoice.number}-C{seq}",
        amount=amount,
        unpaid_part=split.unpaid,
        cash_part=split.cash,
        credits_part=split.credits_total,
        disposition=disposition,
        reason=reason,
        actor=actor,
        issued_at=at,
    )
    open_documents(session, [(invoice.customer_id, credit_note_id, None)], kind="credit_note", now=now)
    session.add(note)
    session.flush()
    _post(session, invoice, note, split, now=now)
    follow_money_gone(session, invoice, at=at, actor=actor, reason=reason, now=now)
    invoice.amount_credited += split.unpaid
    settled = invoice.state == "final" and invoice.open == 0
    if settled:
        invoice.paid_at = at
    record(
        session,
        invoice,
        action="settled by credit note" if settled else "credit note issued",
        actor=actor,
        now=now,
        to_state="paid" if settled else None,
        reason=reason,
        details={
            "credit_note": note.number,
            "amount": plain(amount),
            "unpaid": plain(split.unpaid),
            "cash": plain(split.cash),
            "credits": plain(split.credits_total),
            "disposition": disposition,
        },
    )
    return note


def make_void(
    session: Session,
    *,
    invoice: Invoice,
    note: CreditNote,
    reason: str,
    actor: str,
    at: datetime,
    now: datetime,
) -> None:
    """Take back a credit note that was issued for a refund made at the provider, since that did not arrive.

    It keeps its number. Such a note is over what cash had paid and over nothing else, so the invoice stays what it is.
    Its entries are reversed as of `at`: its tax is owed again. The caller wrote the refund's end, holds `lock_invoice`,
    has seen that the money is still there, and commits.
    """
    issued = session.scalars(
        select(Entry)
        .where(
            Entry.customer_id == note.customer_id,
            Entry.document_id == note.id,
            Entry.transaction_id == transaction_id(ISSUED, str(note.id)),
        )
        .order_by(Entry.seq.desc())
    ).all()
    booking = Booking(
        note.customer_id,
        source="invoicing:credit_note_void",
        event_id=str(note.id),
        kind="credit_note",
        at=at,
        actor=actor,
        reason=reason,
    )
    for entry in issued:
        booking.take_back(entry)
    booking.post(session, now=now)
    note.voided_at, note.voided_by, note.void_reason = now, actor, reason[:2000]
    session.flush()
    follow_money_gone(session, invoice, at=at, actor=actor, reason=reason, now=now)
    record(
        session,
        invoice,
        action="credit note void",
        actor=actor,
        now=now,
        reason=reason,
        details={"credit_note": note.number, "amount": plain(note.amount)},
    )


def _post(session: Session, invoice: Invoice, note: CreditNote, split: Split, *, now: datetime) -> None:
    booking = Booking(
        invoice.customer_id,
        source=ISSUED,
        event_id=str(note.id),
        kind="credit_note",
        at=note.issued_at,
        actor=note.actor,
        reason=note.reason,
    )
    # What is open on an invoice is one sum over the entries about it, so this leg is about the invoice.
    booking.move("unpaid", split.unpaid, debit=accounts.ADJUSTMENTS, credit=accounts.RECEIVABLE, document_id=invoice.id)
    booking.move("cash", split.cash, debit=accounts.ADJUSTMENTS, credit=accounts.UNAPPLIED, document_id=note.id)
    for account, amount in split.credits.items():
        booking.move(account, amount, debit=accounts.ADJUSTMENTS, credit=account, document_id=note.id)
    # What was owed to tax offices comes out of what the legs above took from income, on top or inside of it.
    for part in give_back(session, invoice=invoice, note=note):
        income = accounts.TAX_INCLUDED if part.tax.inclusive else accounts.ADJUSTMENTS
        leg = f"tax:{part.tax.position}"
        booking.move(leg, part.amount, debit=accounts.TAX, credit=income, document_id=note.id)
    if note.disposition == "keep":
        booking.move("keep", split.cash, debit=accounts.UNAPPLIED, credit=accounts.CREDITS_PREPAID, document_id=note.id)
    booking.post(session, now=now)
