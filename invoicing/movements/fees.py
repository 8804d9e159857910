"""Fees: what the provider keeps of a payment for processing it."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.drafts import InvoiceNotFound
from invoicing.movements.refusals import MovementNotPossible
from invoicing.tables import Invoice
from ledger import accounts
from ledger.books import lock_books


def record_fee(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    provider: str,
    transaction: str,
    amount: Decimal,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Post the fee of one of the provider's transactions; False if it was posted before, or is 0. The caller commits.

    `amount` is in major units of the customer's currency; a negative one was given back. It is our expense, about the
    invoice, and lowers what the provider holds for us.

    Raises:
        InvoiceNotFound: the customer has no such invoice.
        MovementNotPossible: the invoice is not final; no payment of it can have cost anything.
        EntryConflict: the transaction's fee was posted before with another amount.
    """
    lock_books(session, [customer_id])
    invoice = session.get(Invoice, (customer_id, invoice_id))
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    if invoice.number is None:
        raise MovementNotPossible(f"Invoice {invoice_id} is {invoice.state}: no payment of it can have cost a fee.")
    booking = Booking(
        customer_id, source=f"fee:{provider}", event_id=transaction, kind="fee", at=at, actor=actor, reason=transaction
    )
    booking.move("fee", amount, debit=accounts.PAYMENT_FEES, credit=accounts.STRIPE, document_id=invoice_id)
    return booking.post(session, now=now) > 0
