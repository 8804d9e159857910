"""Foreign refunds: what somebody sent back at the provider, past us. The money has left; the books say what for."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.lots import held_beyond_lots
from invoicing.movements.credit_notes import issue
from invoicing.movements.refund_failures import TWICE
from invoicing.movements.refunds import refund_by_external_id, settle_refund, write_refund
from invoicing.movements.refusals import PaymentNotFound, RefundConflict, RefundRefused
from invoicing.movements.standing import ENDED, lock_invoice, standing_of
from invoicing.movements.tables import Refund
from invoicing.movements.tasks import open_task
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.books import NAMESPACE, lock_books
from ledger.money import minor_units, plain


def record_foreign_refund(
    session: Session,
    *,
    customer_id: UUID,
    provider: str,
    payment_external_id: str,
    external_id: str,
    amount: Decimal,
    status: str,
    reason: str | None,
    at: datetime,
    actor: str,
    now: datetime,
) -> Refund:
    """Book a refund that was made at the provider, such as in its dashboard: its credit note first. Caller commits.

    `amount` is in major units, `status` as in `settle_refund`. The customer's own unapplied money from the invoice is
    taken first; only what goes beyond it is a credit note, for what cash had paid. The same refund again only moves its
    status on. One that failed before we heard of it changes nothing but the list of refunds; one that fails after that
    takes back what was booked for it, so that both leave the same books.

    Raises:
        PaymentNotFound: the payment is not in the books (yet).
        RefundConflict: the refund is known with another amount or payment.
        RefundRefused: the amount is none, or more than is left of the payment.
    """
    lock_books(session, [customer_id])
    refund = refund_by_external_id(session, customer_id=customer_id, provider=provider, external_id=external_id)
    if refund is None:
        refund = _record(
            session,
            customer_id=customer_id,
            key=(provider, payment_external_id),
            external_id=external_id,
            amount=amount,
            is_alive=status not in ENDED,
            reason=reason,
            at=at,
            actor=actor,
            now=now,
        )
    elif (refund.amount, refund.payment_external_id) != (amount, payment_external_id):
        raise RefundConflict(
            f"Refund {external_id} is known with {plain(refund.amount)} of payment {refund.payment_external_id}; now "
            f"it says {plain(amount)} of {payment_external_id}. Nothing was written; a person must compare them."
        )
    settle_refund(
        session,
        customer_id=customer_id,
        refund_id=refund.id,
        status=status,
        external_id=external_id,
        failure_code=None,
        failure_reason=None,
        at=at,
        actor=actor,
        now=now,
    )
    return refund


def _record(
    session: Session,
    *,
    customer_id: UUID,
    key: tuple[str, str],
    external_id: str,
    amount: Decimal,
    is_alive: bool,
    reason: str | None,
    at: datetime,
    actor: str,
    now: datetime,
) -> Refund:
    provider, payment_external_id = key
    payment = session.get(Payment, (customer_id, provider, payment_external_id))
    if payment is None:
        raise PaymentNotFound(
            f"Payment {payment_external_id} of refund {external_id} is not in the books (yet). Record it first."
        )
    invoice = lock_invoice(session, customer_id=customer_id, invoice_id=payment.invoice_id)
    standing = standing_of(session, invoice)
    refunded = next(found.refunded for found in standing.payments if found.payment is payment)
    if not amount.is_finite() or amount <= 0 or amount != round(amount, minor_units(invoice.currency)):
        raise RefundRefused(f"{amount} is no amount above zero in whole minor units of {invoice.currency}.")
    if is_alive and amount > payment.amount - refunded:
        raise RefundRefused(
            f"Refund {external_id} sends {plain(amount)} {invoice.currency} back, but only "
            f"{plain(payment.amount - refunded)} are left of payment {payment_external_id}. Nothing was written; a "
            "person must compare the refunds of this payment."
        )
    why = (reason or "").strip()[:1900] or "Refunded at the provider"
    refund_id = uuid5(NAMESPACE, f"foreign refund\x1f{provider}\x1f{external_id}")
    credit_note_id = None
    beyond = amount - standing.unapplied if is_alive else Decimal(0)
    creditable = min(beyond, standing.cash_creditable)
    if creditable > 0:
        credit_note_id = issue(
            session,
            invoice=invoice,
            credit_note_id=uuid5(refund_id, "credit note"),
            movement_id=None,
            amount=creditable,
            disposition="refund",
            reason=why,
            actor=actor,
            at=at,
            now=now,
            cash_only=True,
        ).id
    refund = write_refund(
        session,
        invoice,
        payment,
        refund_id=refund_id,
        credit_note_id=credit_note_id,
        movement_id=None,
        amount=amount,
        reason=why,
        actor=actor,
        now=now,
        external_id=external_id,
    )
    if beyond > creditable:
        _refunded_twice(session, invoice, refund, beyond - creditable, at=at, now=now)
    return refund


def _refunded_twice(
    session: Session, invoice: Invoice, refund: Refund, amount: Decimal, *, at: datetime, now: datetime
) -> None:
    """The customer had kept this money as credit and now got it back as well: take the credit back while it lasts."""
    held = held_beyond_lots(session, customer_id=invoice.customer_id, account=accounts.CREDITS_PREPAID)
    kept = max(Decimal(0), min(held, amount))
    booking = Booking(
        invoice.customer_id,
        source=TWICE,
        event_id=str(refund.id),
        kind="refund",
        at=at,
        actor=refund.actor,
        reason=refund.reason,
    )
    booking.move("kept", kept, debit=accounts.CREDITS_PREPAID, credit=accounts.UNAPPLIED, document_id=refund.id)
    booking.move("given", amount - kept, debit=accounts.ADJUSTMENTS, credit=accounts.UNAPPLIED, document_id=refund.id)
    booking.post(session, now=now)
    open_task(
        session,
        kind="refunded_twice",
        subject=str(refund.id),
        title=f"{plain(amount)} {invoice.currency} of {invoice.number} were kept as credit and sent back too",
        text=f"Refund {refund.external_id} was made at {refund.provider}, but the customer had kept {plain(amount)} of "
        f"that money as credit. {plain(kept)} of the credit were taken back; {plain(amount - kept)} had been used up "
        "and are a gift unless you charge them again on the next invoice.",
        cause=f"refund {refund.external_id}",
        now=now,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        details={"refund": str(refund.id), "taken_back": plain(kept), "given": plain(amount - kept)},
    )
