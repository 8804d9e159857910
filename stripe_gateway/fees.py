"""Fees: what Stripe keeps of each payment, taken from the balance transaction of its charge, once."""

from datetime import datetime

from sqlalchemy.orm import Session

from invoicing.movements.fees import record_fee
from stripe_gateway import amounts
from stripe_gateway.acts import ACTOR
from stripe_gateway.cash import PROVIDER, EventRefused, note_effect
from stripe_gateway.client import Json
from stripe_gateway.clock import instant
from stripe_gateway.ownership import Owner
from stripe_gateway.tables import StripeSync


def effect(transaction: str) -> str:
    """The business key of what a balance transaction did."""
    return f"bt:{transaction}"


def record(session: Session, transaction: Json, *, owner: Owner, cause: str, now: datetime) -> bool:
    """Book the fee of a payment's balance transaction; False if it was booked before. The caller commits.

    Raises:
        EventRefused: the account settles in another currency than the invoice's.
        InvoicingError, LedgerError: the books refuse it.
    """
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    if transaction["currency"].upper() != sync.currency:
        raise EventRefused(
            f"{transaction['id']} settled in {transaction['currency'].upper()}, invoice {sync.number} is in "
            f"{sync.currency}: the Stripe account must settle in the invoice's currency."
        )
    if not note_effect(session, owner, effect(transaction["id"]), cause=cause, now=now):
        return False
    if transaction["fee"]:
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
