"""Fees: what Stripe keeps of each payment, taken from the balance transaction of its charge, once.

In another currency than the invoice's, the same transaction says what became of the payment too: it is exchanged.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from invoicing.movements.fees import record_fee
from stripe_gateway import amounts, exchanges
from stripe_gateway.acts import ACTOR
from stripe_gateway.cash import PROVIDER, note_effect
from stripe_gateway.client import Json
from stripe_gateway.clock import instant
from stripe_gateway.exchanges import effect
from stripe_gateway.house import House
from stripe_gateway.ownership import Paid


def record(
    session: Session, transaction: Json, *, charge: Json, paid: Paid, house: House, cause: str, now: datetime
) -> bool:
    """Book the fee of a payment's balance transaction; False if it was booked before. The caller commits.

    `charge` is what the transaction belongs to. One in another currency than the invoice's is exchanged, and what
    Stripe kept of it is the house's expense, since the customer's books are in one currency.

    Raises:
        InvoicingError, LedgerError: the books refuse it.
    """
    owner = paid.owner
    if not note_effect(session, owner, effect(transaction["id"]), cause=cause, now=now):
        return False
    if not exchanges.fits(session, transaction, owner):
        amount = exchanges.of_charge(transaction, charge)
        exchanges.record(session, transaction, amount_minor=amount, paid=paid, house=house, now=now)
    elif transaction["fee"]:
        record_fee(
            session,
            customer_id=owner.customer_id,
            invoice_id=owner.invoice_id,
            provider=PROVIDER,
            transaction=transaction["id"],
            amount=amounts.from_minor(transaction["fee"], transaction["currency"]),
            at=instant(transaction["created"]),
            actor=ACTOR,
            now=now,
        )
    return True
