"""Delayed payments: the customer's bank has been asked to pay, and answers in some days. Until then no money moved."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.drafts import InvoiceNotFound
from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.tables import Invoice, PaymentUnderWay
from ledger.books import lock_books
from ledger.money import plain

UNDER_WAY = "under_way"
ENDS = ("paid", "failed")


class PaymentIsUnderWay(InvoicingError):
    """The customer's bank is being debited for this invoice and cannot be called back. Wait for its answer."""

    code = "payment_under_way"


def note_debit(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    provider: str,
    external_id: str,
    amount: Decimal,
    method: str,
    state: str,
    began_at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Note how far a debit is: under_way, paid or failed; False if that is known. Moves no money. The caller commits.

    `external_id` is the provider's id of this one attempt, `amount` in major units of the invoice's currency. An end
    that is known stays, whatever is heard later: news in any order end in the same row.

    Raises:
        InvoiceNotFound: the customer has no such invoice.
    """
    lock_books(session, [customer_id])
    invoice = session.get(Invoice, (customer_id, invoice_id))
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    ended_at = None if state == UNDER_WAY else now
    values = {"customer_id": customer_id, "provider": provider, "external_id": external_id}
    facts = {"invoice_id": invoice_id, "amount": amount, "method": method, "began_at": began_at, "noted_at": now}
    written = session.execute(
        insert(PaymentUnderWay)
        .values(**values, **facts, state=state, ended_at=ended_at)
        .on_conflict_do_nothing()
        .returning(PaymentUnderWay.external_id)
    ).first()
    if written is None:
        known = session.get_one(
            PaymentUnderWay, (customer_id, provider, external_id), with_for_update=True, populate_existing=True
        )
        if known.state != UNDER_WAY or state == UNDER_WAY:
            return False
        known.state, known.ended_at = state, ended_at
        session.flush()
    if state == UNDER_WAY:
        record(
            session,
            invoice,
            action="payment under way",
            actor=actor,
            now=now,
            details={"payment": external_id, "amount": plain(amount), "method": method},
        )
    return True


def under_way(session: Session, *, customer_id: UUID, invoice_ids: Sequence[UUID]) -> dict[UUID, list[PaymentUnderWay]]:
    """The debits whose banks have not answered yet, by invoice, the oldest first."""
    found: dict[UUID, list[PaymentUnderWay]] = {}
    query = (
        select(PaymentUnderWay)
        .where(
            PaymentUnderWay.customer_id == customer_id,
            PaymentUnderWay.invoice_id.in_(invoice_ids),
            PaymentUnderWay.state == UNDER_WAY,
        )
        .order_by(PaymentUnderWay.began_at, PaymentUnderWay.external_id)
    )
    for debit in session.scalars(query, execution_options={"populate_existing": True}):
        found.setdefault(debit.invoice_id, []).append(debit)
    return found


def refuse_while_under_way(session: Session, invoice: Invoice, *, wish: str) -> None:
    """Refuse what would collect the same money twice, or give up what is on its way. Under `lock_invoice`.

    Raises:
        PaymentIsUnderWay: naming the debit and the cure.
    """
    waiting = under_way(session, customer_id=invoice.customer_id, invoice_ids=[invoice.id]).get(invoice.id)
    if waiting:
        debit = waiting[0]
        raise PaymentIsUnderWay(
            f"The customer's bank has been asked for {plain(debit.amount)} {invoice.currency} of invoice "
            f"{invoice.number} since {debit.began_at.date()}, and cannot be called back: {wish}. Wait for the bank's "
            "answer, some days at most. If it pays, credit or refund it; if it does not, try again."
        )
