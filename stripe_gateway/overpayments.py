"""Overpayments: what came beyond what was due is in our books, so Stripe's balance of the customer goes back to 0.

Source: https://docs.stripe.com/api/invoices/object#invoice_object-amount_overpaid - it is credited to the customer's
balance, which the next invoice would use up.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from invoicing.movements.tasks import open_task
from stripe_gateway import amounts, operations
from stripe_gateway.cash import note_effect
from stripe_gateway.client import Json
from stripe_gateway.ownership import Owner
from stripe_gateway.tables import StripeEffect, StripeSync


def is_known(session: Session, owner: Owner, invoice: Json) -> bool:
    """Whether somebody told us already that this much was paid too much for Stripe's invoice."""
    return session.get(StripeEffect, (owner.customer_id, _key(invoice))) is not None


def record(session: Session, invoice: Json, *, owner: Owner, cause: str, now: datetime) -> None:
    """Have the customer's balance at Stripe brought back to 0, and tell staff. Repeating it changes nothing.

    `invoice` is Stripe's, ours is `owner`'s. The caller commits.
    """
    if not note_effect(session, owner, _key(invoice), cause=cause, now=now):
        return
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    operations.set_balance_to_zero(
        session, customer_id=owner.customer_id, invoice_id=owner.invoice_id, cause=_key(invoice), now=now
    )
    more = f"{amounts.from_minor(invoice['amount_overpaid'], sync.currency)} {sync.currency}"
    open_task(
        session,
        kind="overpaid",
        subject=invoice["id"],
        title=f"Invoice {sync.number} was overpaid by {more}",
        text="The customer's money is in the books, unapplied. Send it back or keep it as credit, on the invoice's "
        "page. Their balance at Stripe is brought back to 0 by itself, so that it is not used twice.",
        cause=cause,
        now=now,
        customer_id=owner.customer_id,
        invoice_id=owner.invoice_id,
        details={"invoice": invoice["id"], "amount_minor": invoice["amount_overpaid"]},
    )


def _key(invoice: Json) -> str:
    return f"over:{invoice['id']}:{invoice['amount_overpaid']}"
