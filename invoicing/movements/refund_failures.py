"""Refunds that did not arrive: the money is the customer's again, or ours, and a person is told what became of it.

A refund that we began leaves the customer's money unapplied: it was promised. One that somebody made at the provider
promised nothing, so what was booked only because of it is taken back: heard of before it failed, or only afterwards, it
leaves the same books.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.movements.credit_notes import make_void
from invoicing.movements.standing import standing_of
from invoicing.movements.tables import CreditNote, Refund
from invoicing.movements.tasks import open_task, resolve_gone
from invoicing.tables import Invoice
from ledger.entries import entry_id, transaction_id
from ledger.money import plain
from ledger.tables import Entry

REFUND = "invoicing:refund"
TWICE = "invoicing:refunded_twice"
"""Sources of the entries of a refund; `TWICE`: of one that sent back what the customer had kept as credit."""


@dataclass(frozen=True, slots=True)
class _Undone:
    """What was taken back of a refund made at the provider, in major units; `missing`: what was not there any more."""

    note: CreditNote | None = None
    credit_again: Decimal = Decimal(0)
    given_no_more: Decimal = Decimal(0)
    missing: Decimal = Decimal(0)
    unused: Decimal = Decimal(0)
    """What the refund had taken of the customer's unused money, and now is unused again."""


def end_refund(
    session: Session, invoice: Invoice, refund: Refund, *, had_left: bool, at: datetime, actor: str, now: datetime
) -> None:
    """Book what a refund that failed or was canceled leaves behind, and tell a person. The caller commits.

    The refund's state is written; `had_left` is whether its money had left before. The caller holds the locks.
    """
    if had_left:
        _take_back(session, refund, at=at, actor=actor, now=now)
    if refund.movement_id is not None:
        _tell(session, invoice, refund, now=now)
        return
    undone = _undo(session, invoice, refund, at=at, actor=actor, now=now)
    _tell_of_foreign(session, invoice, refund, undone, now=now)


def _take_back(session: Session, refund: Refund, *, at: datetime, actor: str, now: datetime) -> None:
    sent = session.get_one(Entry, _key(refund, REFUND, "refund"))
    booking = _booking(refund, "invoicing:refund_failed", at=at, actor=actor)
    booking.take_back(sent)
    booking.post(session, now=now)


def _undo(session: Session, invoice: Invoice, refund: Refund, *, at: datetime, actor: str, now: datetime) -> _Undone:
    """Take back the credit note that the refund was given, and what it took of the customer's credit."""
    note = None
    if refund.credit_note_id is not None:
        note = session.get_one(CreditNote, (refund.customer_id, refund.credit_note_id), populate_existing=True)
    found = {leg: session.get(Entry, _key(refund, TWICE, leg)) for leg in ("kept", "given")}
    twice = {leg: entry for leg, entry in found.items() if entry is not None}
    booked = sum((entry.amount for entry in twice.values()), note.cash_part if note is not None else Decimal(0))
    # All of it lies in the customer's unapplied money, since it was promised to this refund until now. Somebody may
    # have moved it by hand all the same: then nothing is taken back, for there would be less than nothing left.
    missing = booked - standing_of(session, invoice).unapplied
    if missing > 0:
        return _Undone(note, missing=missing)
    booking = _booking(refund, "invoicing:refund_undone", at=at, actor=actor)
    for entry in twice.values():
        booking.take_back(entry)
    booking.post(session, now=now)
    if twice:
        resolve_gone(session, kind="refunded_twice", subject=str(refund.id), cause=f"refund {refund.state}", now=now)
    if note is not None:
        why = f"The refund {refund.external_id} that it was issued for did not arrive: {_why(refund)}"
        make_void(session, invoice=invoice, note=note, reason=why, actor=actor, at=at, now=now)
    amounts = {leg: entry.amount for leg, entry in twice.items()}
    kept, given = amounts.get("kept", Decimal(0)), amounts.get("given", Decimal(0))
    return _Undone(note, kept, given, unused=refund.amount - booked)


def _notes_of_others(session: Session, refund: Refund) -> list[CreditNote]:
    """The credit notes that stand for other refunds which somebody made at the provider, of the same invoice."""
    of_note = (Refund.customer_id == CreditNote.customer_id) & (Refund.credit_note_id == CreditNote.id)
    return list(
        session.scalars(
            select(CreditNote)
            .join(Refund, of_note)
            .where(
                Refund.customer_id == refund.customer_id,
                Refund.invoice_id == refund.invoice_id,
                Refund.id != refund.id,
                Refund.movement_id.is_(None),
                CreditNote.voided_at.is_(None),
            )
            .order_by(CreditNote.seq)
        )
    )


def _key(refund: Refund, source: str, leg: str) -> tuple[UUID, UUID]:
    return refund.customer_id, entry_id(transaction_id(source, str(refund.id)), leg)


def _booking(refund: Refund, source: str, *, at: datetime, actor: str) -> Booking:
    return Booking(
        refund.customer_id,
        source=source,
        event_id=str(refund.id),
        kind="refund",
        at=at,
        actor=actor,
        reason=refund.failure_reason or "The refund failed",
    )


def _why(refund: Refund) -> str:
    return refund.failure_reason or refund.failure_code or "the provider does not say why"


def _tell(session: Session, invoice: Invoice, refund: Refund, *, now: datetime) -> None:
    _open_task(
        session,
        invoice,
        refund,
        f"The refund on invoice {invoice.number} is {refund.state}: {_why(refund)}. The money is still the customer's: "
        "send it back in another way, or keep it as credit, from the invoice.",
        {},
        now=now,
    )


def _tell_of_foreign(session: Session, invoice: Invoice, refund: Refund, undone: _Undone, *, now: datetime) -> None:
    currency, note = invoice.currency, undone.note
    said = [
        f"Somebody refunded {plain(refund.amount)} {currency} of invoice {invoice.number} at {refund.provider}, and "
        f"that refund is {refund.state}: {_why(refund)}."
    ]
    details = {}
    if undone.missing > 0:
        said.append(
            f"What had been booked for it could not be taken back: {plain(undone.missing)} {currency} of it are not "
            "among the customer's unused money any more"
            + (f", so credit note {note.number} over {plain(note.amount)} stands" if note is not None else "")
            + ". Find out from the journal what became of that money, and correct it by hand."
        )
        details["missing"] = plain(undone.missing)
    elif note is not None:
        said.append(f"Credit note {note.number} over {plain(note.amount)}, which had been issued for it, is void.")
    else:
        said.append("No credit note stands for it.")
    if undone.credit_again or undone.given_no_more:
        said.append(
            f"{plain(undone.credit_again)} that had been taken back are the customer's credit again. "
            f"{plain(undone.given_no_more)} had been a gift and are none any more: if they were charged again "
            "meanwhile, take that charge back."
        )
    others = _notes_of_others(session, refund) if undone.unused > 0 else []
    if others:
        too_much = min(undone.unused, sum((other.cash_part for other in others), Decimal(0)))
        names = " and ".join(other.number for other in others)
        said.append(
            f"{names} took back {plain(too_much)} {currency} too much: this refund had the customer's unused money, so "
            "another one was credited instead. That much is unused again: keep it as credit, and charge as much on the "
            "next invoice."
        )
        details["too_much"] = plain(too_much)
    said.append("If the customer is to have the money, begin a credit note, or send unused money back, from here.")
    if note is not None:
        details["credit_note"] = note.number
    _open_task(session, invoice, refund, " ".join(said), details, now=now)


def _open_task(
    session: Session, invoice: Invoice, refund: Refund, text: str, details: dict[str, str], *, now: datetime
) -> None:
    open_task(
        session,
        kind="refund_failed",
        subject=str(refund.id),
        title=f"A refund of {plain(refund.amount)} {invoice.currency} did not arrive",
        text=text,
        cause=f"refund {refund.id} {refund.state}",
        now=now,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        details={
            "refund": str(refund.id),
            "amount": plain(refund.amount),
            "external_id": refund.external_id or "",
            "failure_code": refund.failure_code or "",
            **details,
        },
    )
