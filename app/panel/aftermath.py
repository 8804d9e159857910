"""What happened to an invoice since it was issued, in the customer's words. Who did it and why stays with us."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.panel import format as formats
from invoicing.drafts import InvoiceView
from invoicing.movements.credit_notes import credit_notes_of
from invoicing.movements.disputes import disputes_of
from invoicing.movements.refunds import refunds_of
from invoicing.movements.tables import CreditNote, Dispute, Refund
from invoicing.tables import Invoice, Payment, PaymentFailure, PaymentUnderWay

_ENDED = ("failed", "canceled")


@dataclass(frozen=True, slots=True)
class Happening:
    """One row: a badge (`word`, `tone`), sentences below it, and what was moved (None: nothing), in major units."""

    at: datetime
    word: str
    tone: str
    sentences: list[str]
    amount: Decimal | None


def credited_of(session: Session, customer_id: UUID, invoice_ids: Sequence[UUID]) -> dict[UUID, Decimal]:
    """What credit notes took back of each invoice, in major units; invoices without one are missing."""
    if not invoice_ids:
        return {}
    rows = session.execute(
        select(CreditNote.invoice_id, func.sum(CreditNote.amount))
        .where(
            CreditNote.customer_id == customer_id,
            CreditNote.invoice_id.in_(invoice_ids),
            CreditNote.voided_at.is_(None),
        )
        .group_by(CreditNote.invoice_id)
    )
    return {row[0]: row[1] for row in rows}


def taken_back_of(session: Session, customer_id: UUID, invoice_ids: Sequence[UUID]) -> set[UUID]:
    """The invoices of which a bank took a payment back for good."""
    if not invoice_ids:
        return set()
    rows = session.scalars(
        select(Dispute.invoice_id).where(
            Dispute.customer_id == customer_id, Dispute.invoice_id.in_(invoice_ids), Dispute.status == "lost"
        )
    )
    return {invoice_id for invoice_id in rows if invoice_id is not None}


def replacement_of(session: Session, invoice: Invoice) -> Invoice | None:
    """The invoice that bills the same charges again, after this one was cancelled; None if they were given up."""
    if invoice.state != "void":
        return None
    return session.scalar(
        select(Invoice)
        .where(
            Invoice.customer_id == invoice.customer_id,
            Invoice.period_start == invoice.period_start,
            Invoice.kind == invoice.kind,
            Invoice.generation > invoice.generation,
        )
        .order_by(Invoice.generation)
        .limit(1)
    )


def happenings_of(session: Session, view: InvoiceView) -> list[Happening]:
    """Payments, credit notes, refunds and disputes of one invoice, in the order in which they happened."""
    invoice = view.invoice
    key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
    found = [_failure(failure) for failure in view.failures]
    found += [_debit(debit, invoice.currency) for debit in view.under_way]
    found += [_payment(payment, invoice.currency) for payment in view.payments]
    found += [_note(note, invoice.currency) for note in credit_notes_of(session, **key)]
    found += [_refund(refund, invoice.currency) for refund in refunds_of(session, **key)]
    found += [_dispute(dispute) for dispute in disputes_of(session, **key)]
    return sorted(found, key=lambda happening: happening.at)


def _failure(failure: PaymentFailure) -> Happening:
    return Happening(failure.failed_at, "Failed", "bad", [failure.message or "The payment was declined."], None)


def _debit(debit: PaymentUnderWay, currency: str) -> Happening:
    text = f"Your bank was asked for {formats.money(debit.amount, currency)} and answers within some days."
    return Happening(debit.began_at, "Under way", "info", [text], None)


def _payment(payment: Payment, currency: str) -> Happening:
    more = payment.amount - payment.applied
    sentences = [f"{formats.money(more, currency)} more than was due; it stays yours"] if more > 0 else []
    return Happening(payment.received_at, "Received", "ok", sentences, payment.amount)


def _note(note: CreditNote, currency: str) -> Happening:
    if note.is_void:
        text = f"{formats.money(note.amount, currency)} were to go back to you and did not arrive. It does not count."
        return Happening(note.issued_at, "Credit note, void", "", [note.number, text], None)
    sentences = [note.number]
    if note.unpaid_part:
        sentences.append(f"{formats.money(note.unpaid_part, currency)} less to pay")
    if note.cash_part:
        then = "is credit for your next invoices" if note.disposition == "keep" else "goes back to you"
        sentences.append(f"{formats.money(note.cash_part, currency)} that you had paid {then}")
    if note.credits_part:
        sentences.append(f"{formats.money(note.credits_part, currency)} is back among your credits")
    return Happening(note.issued_at, "Credit note", "info", sentences, -note.amount)


def _refund(refund: Refund, currency: str) -> Happening:
    if refund.state in _ENDED and refund.movement_id is None:
        text = f"{formats.money(refund.amount, currency)} did not reach you: your bank sent them back to us."
        return Happening(refund.failed_at or refund.requested_at, "Refund failed", "bad", [text], None)
    if refund.state in _ENDED:
        text = (
            f"{formats.money(refund.amount, currency)} did not reach you. We have your money: support sends it in "
            "another way, or keeps it as credit for you."
        )
        return Happening(refund.failed_at or refund.requested_at, "Refund failed", "bad", [text], None)
    if refund.state == "succeeded":
        text = "Sent back to where the payment came from. Your bank may take some days to show it."
        return Happening(refund.settled_at or refund.requested_at, "Refunded", "ok", [text], -refund.amount)
    return Happening(refund.requested_at, "Refund on its way", "info", ["This may take some days."], -refund.amount)


def _dispute(dispute: Dispute) -> Happening:
    at = dispute.opened_at or dispute.updated_at
    if dispute.status == "lost":
        return Happening(at, "Disputed", "warn", ["Your bank took this payment back."], None)
    if dispute.status == "won":
        return Happening(at, "Disputed", "", ["Your bank decided that the payment stands."], None)
    if dispute.status in ("warning_closed", "prevented"):
        return Happening(at, "Disputed", "", ["The question of your bank is settled."], None)
    if (dispute.status or "").startswith("warning"):
        return Happening(at, "Disputed", "info", ["Your bank asks about this payment."], None)
    return Happening(at, "Disputed", "warn", ["Your bank looks into this payment. That may take months."], None)
