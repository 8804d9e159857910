"""Disputes: payments that the customer's bank takes back, and how they end. Months may pass, and a loss may turn."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.bought import follow_money_gone
from invoicing.history import record
from invoicing.movements.refusals import DisputeConflict, DisputeRefused, PaymentNotFound
from invoicing.movements.standing import lock_invoice
from invoicing.movements.tables import Dispute
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.books import NAMESPACE, lock_books
from ledger.documents import open_documents
from ledger.money import minor_units, plain
from ledger.tables import Entry

STATUSES = (
    "warning_needs_response",
    "warning_under_review",
    "warning_closed",
    "needs_response",
    "under_review",
    "prevented",
    "lost",
    "won",
)
"""From the least to the most decided. Events come in any order, so a status is never less decided than it was.

An inquiry that was closed may still become a dispute, and a loss may turn into a late win; a win stands.
Source: https://docs.stripe.com/api/disputes/object#dispute_object-status
"""

CLOSED = ("warning_closed", "prevented", "lost", "won")


@dataclass(frozen=True, slots=True)
class _Facts:
    invoice_id: UUID
    payment_external_id: str
    amount: Decimal
    currency: str
    reason: str
    opened_at: datetime


def dispute_id(*, provider: str, external_id: str) -> UUID:
    """Our id of a dispute: the same whoever hears of it first."""
    return uuid5(NAMESPACE, f"dispute\x1f{provider}\x1f{external_id}")


def find_dispute(session: Session, *, customer_id: UUID, provider: str, external_id: str) -> Dispute | None:
    """The dispute that the provider calls so; None if we do not know it."""
    return session.get(
        Dispute, (customer_id, dispute_id(provider=provider, external_id=external_id)), populate_existing=True
    )


def disputes_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[Dispute]:
    """The disputes of an invoice's payments, the oldest first."""
    return list(
        session.scalars(
            select(Dispute)
            .where(Dispute.customer_id == customer_id, Dispute.invoice_id == invoice_id)
            .order_by(Dispute.opened_at, Dispute.id)
        )
    )


def record_dispute(
    session: Session,
    *,
    customer_id: UUID,
    provider: str,
    external_id: str,
    invoice_id: UUID,
    payment_external_id: str,
    amount: Decimal,
    currency: str,
    reason: str,
    status: str,
    evidence_due_at: datetime | None,
    opened_at: datetime,
    actor: str,
    now: datetime,
) -> Dispute:
    """Write down what the provider says of a dispute; `amount` in major units, above 0. The caller commits.

    The books follow from the status and the money moved so far, in whatever order they became known: what is left of
    a lost dispute is a loss, and one that is won after all is not. A status less decided than the known one changes
    nothing.

    Raises:
        PaymentNotFound: the payment is not in the books (yet), or is another invoice's.
        DisputeConflict: it is known with another invoice, payment or currency.
        DisputeRefused: no such status, or no such amount.
    """
    if status not in STATUSES:
        raise DisputeRefused(f"{status!r} is no status of a dispute. It is one of: {', '.join(STATUSES)}.")
    invoice = lock_invoice(session, customer_id=customer_id, invoice_id=invoice_id)
    facts = _Facts(invoice_id, payment_external_id, amount, currency, reason[:2000], opened_at)
    _check(session, invoice, provider=provider, external_id=external_id, facts=facts)
    dispute = _open(session, customer_id=customer_id, provider=provider, external_id=external_id, now=now)
    if dispute.status is None:
        for name in ("invoice_id", "payment_external_id", "currency", "opened_at"):
            setattr(dispute, name, getattr(facts, name))
    elif (dispute.invoice_id, dispute.payment_external_id, dispute.currency) != (
        invoice_id,
        payment_external_id,
        currency,
    ):
        raise DisputeConflict(
            f"Dispute {external_id} is about {dispute.payment_external_id} of invoice {dispute.invoice_id}; "
            f"now it says {payment_external_id} of {invoice_id}. Nothing was written; a person must compare them."
        )
    before = dispute.status
    if before is not None and STATUSES.index(status) < STATUSES.index(before):
        return dispute
    dispute.status, dispute.amount, dispute.reason = status, amount, facts.reason
    dispute.evidence_due_at, dispute.updated_at = evidence_due_at, now
    if status in CLOSED:
        dispute.closed_at = dispute.closed_at if status == before else now
    else:
        dispute.closed_at = None
    session.flush()
    if status != before:
        record(
            session,
            invoice,
            action="dispute opened" if before is None else f"dispute {status.replace('_', ' ')}",
            actor=actor,
            now=now,
            details={"dispute": external_id, "status": status, "amount": plain(amount), "reason": facts.reason},
        )
    _follow(session, dispute, at=now, actor=actor, now=now)
    return dispute


def _check(session: Session, invoice: Invoice, *, provider: str, external_id: str, facts: _Facts) -> None:
    payment = session.get(Payment, (invoice.customer_id, provider, facts.payment_external_id))
    if payment is None or payment.invoice_id != invoice.id:
        raise PaymentNotFound(
            f"Payment {facts.payment_external_id} of dispute {external_id} is not in the books of invoice "
            f"{invoice.number} (yet). Record it first."
        )
    amount = facts.amount
    if not amount.is_finite() or amount <= 0 or amount != round(amount, minor_units(facts.currency)):
        raise DisputeRefused(f"Dispute {external_id} has {amount}: no amount above zero in whole units.")


def move_dispute_funds(
    session: Session,
    *,
    customer_id: UUID,
    provider: str,
    external_id: str,
    transaction: str,
    amount: Decimal,
    fee: Decimal,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Post one movement of a dispute's money; False if it was posted before. The caller commits.

    `transaction` is the provider's id of it. `amount` and `fee` are in major units, signed as the provider has them:
    withdrawn money is below 0 with a fee above 0; reinstated money is above 0, and a fee that is given back below 0.
    The dispute itself may become known later.

    Raises:
        EntryConflict: the transaction was posted before with other content.
        DisputeRefused: nothing moves.
    """
    if not amount.is_finite() or not fee.is_finite() or (amount == 0 and fee == 0):
        raise DisputeRefused(f"Transaction {transaction} of dispute {external_id} moves nothing.")
    lock_books(session, [customer_id])
    dispute = _open(session, customer_id=customer_id, provider=provider, external_id=external_id, now=now)
    booking = Booking(
        customer_id,
        source=f"dispute:{provider}",
        event_id=transaction,
        kind="dispute",
        at=at,
        actor=actor,
        reason=f"Dispute {external_id}",
    )
    booking.move("funds", -amount, debit=accounts.DISPUTED, credit=accounts.STRIPE, document_id=dispute.id)
    booking.move("fee", fee, debit=accounts.DISPUTE_FEES, credit=accounts.STRIPE, document_id=dispute.id, kind="fee")
    if booking.post(session, now=now) == 0:
        return False
    if amount < 0:
        dispute.withdrawn -= amount
    else:
        dispute.reinstated += amount
    dispute.fees += fee
    dispute.updated_at = now
    session.flush()
    if dispute.invoice_id is not None:
        record(
            session,
            lock_invoice(session, customer_id=customer_id, invoice_id=dispute.invoice_id),
            action="disputed money withdrawn" if amount < 0 else "disputed money given back",
            actor=actor,
            now=now,
            details={"dispute": external_id, "amount": plain(abs(amount)), "fee": plain(fee)},
        )
    _follow(session, dispute, at=at, actor=actor, now=now)
    return True


def _open(session: Session, *, customer_id: UUID, provider: str, external_id: str, now: datetime) -> Dispute:
    """The dispute's row with its document, written at the first word of it. The caller holds the books' lock."""
    found_id = dispute_id(provider=provider, external_id=external_id)
    open_documents(session, [(customer_id, found_id, None)], kind="dispute", now=now)
    session.execute(
        insert(Dispute)
        .values(customer_id=customer_id, id=found_id, provider=provider, external_id=external_id, updated_at=now)
        .on_conflict_do_nothing()
    )
    return session.get_one(Dispute, (customer_id, found_id), populate_existing=True)


def loss_of(dispute: Dispute) -> Decimal:
    """What the books hold as lost by this dispute: of a lost one, what was withdrawn and not given back."""
    return max(Decimal(0), dispute.withdrawn - dispute.reinstated) if dispute.status == "lost" else Decimal(0)


def _follow(session: Session, dispute: Dispute, *, at: datetime, actor: str, now: datetime) -> None:
    """Make the books say what follows from the row: of the loss, and of the credit that a disputed top-up sold."""
    _follow_loss(session, dispute, at=at, actor=actor, now=now)
    if dispute.invoice_id is not None:
        invoice = session.get_one(Invoice, (dispute.customer_id, dispute.invoice_id))
        reason = f"Dispute {dispute.external_id} {dispute.status}"
        follow_money_gone(session, invoice, at=at, actor=actor, reason=reason, now=now)


def _follow_loss(session: Session, dispute: Dispute, *, at: datetime, actor: str, now: datetime) -> None:
    """The loss that stands is reversed if it is another one now."""
    reversal = select(Entry.reverses_id).where(
        Entry.customer_id == dispute.customer_id,
        Entry.document_id == dispute.id,
        Entry.reverses_id.is_not(None),
    )
    of_loss = (
        Entry.customer_id == dispute.customer_id,
        Entry.document_id == dispute.id,
        Entry.debit_account == accounts.CHARGEBACKS,
    )
    standing = session.scalar(select(Entry).where(*of_loss, Entry.id.not_in(reversal)))
    loss = loss_of(dispute)
    if loss == (standing.amount if standing else Decimal(0)):
        return
    booked = session.scalar(select(func.count()).select_from(Entry).where(*of_loss)) or 0
    booking = Booking(
        dispute.customer_id,
        source="dispute:loss",
        event_id=f"{dispute.id} {booked + (0 if loss else 1)}{'' if loss else ' reversed'}",
        kind="dispute",
        at=at,
        actor=actor,
        reason=f"Dispute {dispute.external_id} {dispute.status}",
    )
    if standing is not None:
        booking.take_back(standing)
    booking.move("loss", loss, debit=accounts.CHARGEBACKS, credit=accounts.DISPUTED, document_id=dispute.id)
    booking.post(session, now=now)
