"""Refunds: money of a payment on its way back to the customer, and what came of it."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.history import record
from invoicing.movements.decisions import done, refused
from invoicing.movements.refund_failures import REFUND, end_refund
from invoicing.movements.refusals import AmountTooLarge, RefundConflict, RefundNotFound
from invoicing.movements.standing import ENDED, PaymentStanding, Standing, lock_invoice
from invoicing.movements.tables import Movement, Refund
from invoicing.movements.tasks import open_task, resolve_gone
from invoicing.payments import account_of
from invoicing.provider import Provider, RefundOrder
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.books import lock_books
from ledger.documents import open_documents
from ledger.money import plain

BY_HAND = "manual"
BY_HAND_TASK = "refund_by_hand"
"""The provider of payments that only a person can send back, from the bank account."""

_RANK = {"requested": 0, "pending": 1, "succeeded": 2, "failed": 3, "canceled": 3}


def begin_refunds(
    session: Session,
    standing: Standing,
    *,
    amount: Decimal,
    source_id: UUID,
    credit_note_id: UUID | None,
    movement_id: UUID,
    payment: str | None,
    reason: str,
    actor: str,
    provider: Provider,
    now: datetime,
) -> list[Refund]:
    """Write the refunds of `amount` (major units) down and order them. The caller holds `lock_invoice` and commits.

    The newest payments go back first; one with an undecided dispute is left alone. Ids follow from `source_id`. What
    lies in the bank is a task for a person instead of an order.

    Raises:
        AmountTooLarge: the payments cannot take so much back.
    """
    invoice = standing.invoice
    refunds: list[Refund] = []
    for index, (found, part) in enumerate(parts_of(standing, amount, payment=payment)):
        refund = write_refund(
            session,
            invoice,
            found.payment,
            refund_id=uuid5(source_id, f"refund {index}"),
            credit_note_id=credit_note_id,
            movement_id=movement_id,
            amount=part,
            reason=reason,
            actor=actor,
            now=now,
        )
        refunds.append(refund)
        if is_by_hand(found):
            _ask_a_person(session, invoice, refund, now=now)
        else:
            order = RefundOrder(
                customer_id=refund.customer_id,
                movement_id=movement_id,
                refund_id=refund.id,
                invoice_id=invoice.id,
                provider=refund.provider,
                payment=refund.payment_external_id,
                amount=part,
                currency=invoice.currency,
                reason=reason,
            )
            provider.carry_out(session, order, now=now)
    return refunds


def is_by_hand(found: PaymentStanding) -> bool:
    """Whether only a person can send this payment back: its money is not with the provider."""
    return found.payment.provider == BY_HAND or found.account == accounts.BANK


def parts_of(
    standing: Standing, amount: Decimal, *, payment: str | None = None
) -> list[tuple[PaymentStanding, Decimal]]:
    """Which payments send how much of `amount` back, the newest first; `payment` narrows to one. Writes nothing.

    Raises:
        AmountTooLarge: they cannot take so much back, or a dispute keeps them from it.
    """
    left, parts = amount, []
    for found in standing.payments:
        if payment is not None and found.payment.external_id != payment:
            continue
        take = min(left, found.refundable)
        if take > 0:
            parts.append((found, take))
            left -= take
    if left > 0:
        raise AmountTooLarge(
            f"{plain(amount - left)} {standing.invoice.currency} can be sent back to the payments of invoice "
            f"{standing.invoice.number}; {plain(amount)} are too much. {_cure(standing)}"
        )
    return parts


def refuse_keeping_more_than_is_secure(standing: Standing, amount: Decimal) -> None:
    """Prepaid credit is spent at once: it is not given for money that the customer's bank took back, or may take.

    Raises:
        AmountTooLarge: of what was paid less than `amount` (major units) is here, and outside of any dispute.
    """
    if amount > standing.secure:
        raise AmountTooLarge(
            f"{plain(standing.secure)} {standing.invoice.currency} of what was paid for invoice "
            f"{standing.invoice.number} can be kept as credit; {plain(amount)} are too much. {_cure(standing)}"
        )


def _cure(standing: Standing) -> str:
    disputed = next((found.disputed for found in standing.payments if found.disputed), None)
    if disputed is not None:
        return f"Dispute {disputed} has to be decided first."
    return "The rest was sent back, or lost to a dispute: choose a smaller amount, or grant goodwill credit as a gift."


def write_refund(
    session: Session,
    invoice: Invoice,
    payment: Payment,
    *,
    refund_id: UUID,
    credit_note_id: UUID | None,
    movement_id: UUID | None,
    amount: Decimal,
    reason: str,
    actor: str,
    now: datetime,
    external_id: str | None = None,
) -> Refund:
    """Write a refund down, as requested, with its document and history; post nothing. The caller holds the locks."""
    open_documents(session, [(invoice.customer_id, refund_id, None)], kind="refund", now=now)
    refund = Refund(
        customer_id=invoice.customer_id,
        id=refund_id,
        invoice_id=invoice.id,
        credit_note_id=credit_note_id,
        movement_id=movement_id,
        provider=payment.provider,
        payment_external_id=payment.external_id,
        amount=amount,
        reason=reason,
        actor=actor,
        requested_at=now,
        state="requested",
        external_id=external_id,
    )
    session.add(refund)
    session.flush()
    record(
        session,
        invoice,
        action="refund begun",
        actor=actor,
        now=now,
        reason=reason,
        details={"refund": str(refund_id), "payment": payment.external_id, "amount": plain(amount)},
    )
    return refund


def _ask_a_person(session: Session, invoice: Invoice, refund: Refund, *, now: datetime) -> None:
    open_task(
        session,
        kind=BY_HAND_TASK,
        subject=str(refund.id),
        title=f"Send {plain(refund.amount)} {invoice.currency} back by bank transfer",
        text=f"{refund.actor} asked for a refund on invoice {invoice.number}: {refund.reason} The payment "
        f"{refund.payment_external_id} came by bank transfer, so nobody but a person can send it back. Make the "
        "transfer, then confirm the refund with the bank's reference.",
        cause=f"refund {refund.id}",
        now=now,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        details={"refund": str(refund.id), "amount": plain(refund.amount), "payment": refund.payment_external_id},
    )


def refund_by_external_id(session: Session, *, customer_id: UUID, provider: str, external_id: str) -> Refund | None:
    """The refund that the provider calls so; None if we do not know it."""
    return session.scalar(
        select(Refund)
        .where(Refund.customer_id == customer_id, Refund.provider == provider, Refund.external_id == external_id)
        .execution_options(populate_existing=True)
    )


def refunds_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[Refund]:
    """The refunds of an invoice's payments, in the order in which they were begun."""
    return list(
        session.scalars(
            select(Refund)
            .where(Refund.customer_id == customer_id, Refund.invoice_id == invoice_id)
            .order_by(Refund.requested_at, Refund.id)
        )
    )


def settle_refund(
    session: Session,
    *,
    customer_id: UUID,
    refund_id: UUID,
    status: str,
    external_id: str | None,
    failure_code: str | None,
    failure_reason: str | None,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Write down how far a refund is; False if that is nothing new, or older than what we know. The caller commits.

    `status` is requested, pending, succeeded, failed or canceled; `at` when it became so. Succeeded, the customer's
    unapplied money leaves through the provider, or the bank. Failed after that, its entry is reversed: the money is the
    customer's again, and a task says that somebody has to decide what becomes of it. What a refund made at the provider
    had booked besides, its credit note above all, is taken back when it fails.

    Raises:
        RefundNotFound: the customer has no such refund.
        RefundConflict: it is known under another id at the provider, or the status is none.
    """
    lock_books(session, [customer_id])
    refund = session.get(Refund, (customer_id, refund_id), populate_existing=True)
    if refund is None:
        raise RefundNotFound("There is no such refund. Check the id.")
    if status not in _RANK:
        raise RefundConflict(f"{status!r} is no status of a refund. It is one of: {', '.join(_RANK)}.")
    if external_id is not None and refund.external_id not in (None, external_id):
        raise RefundConflict(
            f"Refund {refund.id} is {refund.external_id} at {refund.provider}, not {external_id}. Nothing was written; "
            "a person must compare them there."
        )
    invoice = lock_invoice(session, customer_id=customer_id, invoice_id=refund.invoice_id)
    if external_id is not None and refund.external_id is None:
        refund.external_id = external_id
        session.flush()
    if refund.state in ENDED or _RANK[status] <= _RANK[refund.state]:
        return False
    if status == "canceled" and refund.state == "succeeded":
        status = "failed"  # the money came back all the same
    before, refund.state = refund.state, status
    if status == "succeeded":
        refund.settled_at = at
        _post_refund(session, refund, at=at, actor=actor, now=now)
    elif status in ENDED:
        refund.failed_at, refund.failure_code = at, (failure_code or "")[:200] or None
        refund.failure_reason = (failure_reason or "")[:2000] or None
    session.flush()
    record(
        session,
        invoice,
        action=f"refund {status}",
        actor=actor,
        now=now,
        reason=refund.failure_reason,
        details={"refund": str(refund.id), "amount": plain(refund.amount), "external_id": refund.external_id or ""},
    )
    if status in ENDED:
        end_refund(session, invoice, refund, had_left=before == "succeeded", at=at, actor=actor, now=now)
    if status in ("succeeded", *ENDED):
        resolve_gone(session, kind="refund_by_hand", subject=str(refund.id), cause=f"{actor}: refund {status}", now=now)
    _finish_movement(session, invoice, refund, actor=actor, now=now)
    return True


def _post_refund(session: Session, refund: Refund, *, at: datetime, actor: str, now: datetime) -> None:
    payment = session.get_one(Payment, (refund.customer_id, refund.provider, refund.payment_external_id))
    booking = Booking(
        refund.customer_id,
        source=REFUND,
        event_id=str(refund.id),
        kind="refund",
        at=at,
        actor=actor,
        reason=refund.reason,
    )
    account = account_of(session, payment)
    booking.move("refund", refund.amount, debit=accounts.UNAPPLIED, credit=account, document_id=refund.id)
    booking.post(session, now=now)


def _finish_movement(session: Session, invoice: Invoice, refund: Refund, *, actor: str, now: datetime) -> None:
    """A movement that is nothing but refunds ends when all of them were accepted, or all of them failed."""
    if refund.movement_id is None:
        return
    movement = session.get_one(Movement, (refund.customer_id, refund.movement_id), populate_existing=True)
    if movement.kind != "refund_unapplied" or movement.state != "working":
        return
    states = session.scalars(
        select(Refund.state).where(Refund.customer_id == refund.customer_id, Refund.movement_id == movement.id)
    ).all()
    if "requested" in states:
        return
    if all(state in ENDED for state in states):
        why = refund.failure_reason or "The provider did not send the money back."
        refused(session, invoice, movement, code=refund.failure_code or refund.state, reason=why, actor=actor, now=now)
    else:
        done(session, invoice, movement, external_id=refund.external_id, actor=actor, now=now)
