"""Standing: what of a final invoice is open, can be credited, can be sent back, and what is under way."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from invoicing.drafts import InvoiceNotFound
from invoicing.movements.tables import CreditNote, Dispute, Movement, Refund
from invoicing.payments import account_of
from invoicing.tables import Invoice, Payment
from ledger import accounts
from ledger.books import lock_books
from ledger.tables import TOTALS

UNDECIDED = ("needs_response", "under_review")
"""A dispute whose outcome is not known: the provider refunds nothing of its payment meanwhile."""

ENDED = ("failed", "canceled")
"""States of a refund that sends nothing back (any more)."""


@dataclass(frozen=True, slots=True)
class PaymentStanding:
    """One payment: where its money lies, and how much of it can still be sent back, in major units."""

    payment: Payment
    account: str
    refunded: Decimal
    """What refunds sent, or are about to send, back."""
    disputed: str | None
    """The provider's id of a dispute that is not decided: nothing can be sent back until it is."""
    refundable: Decimal


@dataclass(frozen=True, slots=True)
class Standing:
    """One invoice. Amounts in major units of its currency, never negative."""

    invoice: Invoice
    open: Decimal
    """What is still to be paid; 0 once it is void or given up."""
    credited: Decimal
    """What all credit notes took back together."""
    cash_creditable: Decimal
    """What cash paid and no credit note took back."""
    credits_creditable: Decimal
    """What the customer's own credits paid and no credit note took back."""
    unapplied: Decimal
    """The customer's money from this invoice that is promised to nobody. Where a dispute may take it, it stays."""
    payments: list[PaymentStanding]
    """The newest first."""
    under_way: list[Movement]
    disputes: list[Dispute]

    @property
    def creditable(self) -> Decimal:
        """The largest credit note that is possible now."""
        if self.invoice.state not in ("final", "paid"):
            return Decimal(0)
        return self.open + self.cash_creditable + self.credits_creditable

    @property
    def secure(self) -> Decimal:
        """What of its payments was neither sent back nor lost to a dispute, nor can be: no dispute of it is open."""
        return sum((found.refundable for found in self.payments), Decimal(0))

    @property
    def movable(self) -> Decimal:
        """How much of the unapplied money can be sent back, or kept as credit."""
        return min(self.unapplied, self.secure)


def lock_invoice(session: Session, *, customer_id: UUID, invoice_id: UUID) -> Invoice:
    """The invoice, its books and its row locked until the transaction ends.

    Raises:
        InvoiceNotFound: this customer has no such invoice.
    """
    lock_books(session, [customer_id])
    invoice = session.get(Invoice, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    return invoice


def standing_of(session: Session, invoice: Invoice) -> Standing:
    """What can be done with this invoice, as the session sees it. To act on it, hold `lock_invoice`. Writes nothing."""
    key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
    fresh = {"populate_existing": True}
    notes = session.scalars(select(CreditNote).filter_by(**key), execution_options=fresh).all()
    refunds = session.scalars(select(Refund).filter_by(**key), execution_options=fresh).all()
    disputes = session.scalars(
        select(Dispute).filter_by(**key).order_by(Dispute.opened_at, Dispute.id), execution_options=fresh
    ).all()
    payments = session.scalars(
        select(Payment).filter_by(**key).order_by(Payment.received_at.desc(), Payment.external_id.desc())
    ).all()
    under_way = session.scalars(
        select(Movement)
        .filter_by(**key)
        .where(Movement.state.in_(("awaiting_approval", "working")))
        .order_by(Movement.requested_at, Movement.id),
        execution_options=fresh,
    ).all()
    documents = [invoice.id, *(note.id for note in notes), *(refund.id for refund in refunds)]
    held = _unapplied(session, customer_id=invoice.customer_id, documents=documents)
    promised = sum((refund.amount for refund in refunds if refund.state in ("requested", "pending")), Decimal(0))
    counted = [note for note in notes if not note.is_void]
    return Standing(
        invoice=invoice,
        open=invoice.open if invoice.state == "final" else Decimal(0),
        credited=sum((note.amount for note in counted), Decimal(0)),
        cash_creditable=invoice.amount_paid - sum((note.cash_part for note in counted), Decimal(0)),
        credits_creditable=(invoice.credits_applied or Decimal(0))
        - sum((note.credits_part for note in counted), Decimal(0)),
        unapplied=held - promised,
        payments=[_payment(session, payment, refunds=refunds, disputes=disputes) for payment in payments],
        under_way=list(under_way),
        disputes=list(disputes),
    )


def _unapplied(session: Session, *, customer_id: UUID, documents: Collection[UUID]) -> Decimal:
    """The customer's money that these documents left in liabilities:unapplied."""
    amount = case((TOTALS.c.credit_account == accounts.UNAPPLIED, TOTALS.c.amount), else_=-TOTALS.c.amount)
    found = session.scalar(
        select(func.coalesce(func.sum(amount), 0)).where(
            TOTALS.c.customer_id == customer_id,
            TOTALS.c.document_id.in_(list(documents)),
            (TOTALS.c.credit_account == accounts.UNAPPLIED) | (TOTALS.c.debit_account == accounts.UNAPPLIED),
        )
    )
    return Decimal(found or 0)


def _payment(
    session: Session, payment: Payment, *, refunds: Collection[Refund], disputes: Collection[Dispute]
) -> PaymentStanding:
    key = (payment.provider, payment.external_id)
    refunded = sum(
        (
            refund.amount
            for refund in refunds
            if (refund.provider, refund.payment_external_id) == key and refund.state not in ENDED
        ),
        Decimal(0),
    )
    mine = [dispute for dispute in disputes if (dispute.provider, dispute.payment_external_id) == key]
    undecided = next((dispute.external_id for dispute in mine if dispute.status in UNDECIDED), None)
    lost = sum((_lost(dispute) for dispute in mine if dispute.status == "lost"), Decimal(0))
    left = max(Decimal(0), payment.amount - refunded - lost)
    return PaymentStanding(
        payment=payment,
        account=account_of(session, payment),
        refunded=refunded,
        disputed=undecided,
        refundable=Decimal(0) if undecided else left,
    )


def _lost(dispute: Dispute) -> Decimal:
    """What the bank took of the payment for good; all of it until its withdrawal is known."""
    if dispute.withdrawn == 0:
        return dispute.amount or Decimal(0)
    return max(Decimal(0), dispute.withdrawn - dispute.reinstated)
