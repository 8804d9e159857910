"""Debits: a payment that the customer's bank answers after days. What Stripe says of the charge is noted, not booked.

Nothing is in the books before `invoice_payment.paid`. Stripe writes a balance transaction when the debit begins, and
another that takes it back if the debit fails; only then are their fees booked. Source:
https://docs.stripe.com/reports/balance-transaction-types (payment, payment_failure_refund).
"""

from datetime import datetime

from sqlalchemy.orm import Session

from invoicing.delayed_payments import UNDER_WAY, note_debit
from stripe_gateway import amounts, fees
from stripe_gateway.acts import ACTOR
from stripe_gateway.cash import PROVIDER, EventRefused
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import instant
from stripe_gateway.event_effects import Context, Effect, Handled, ignored
from stripe_gateway.exchanges import effect
from stripe_gateway.house import house_of
from stripe_gateway.ownership import Owner, id_of, owner_of_payment
from stripe_gateway.tables import StripeEffect, StripeSync

STATES = {"pending": UNDER_WAY, "succeeded": "paid", "failed": "failed"}


def is_delayed(charge: Json) -> bool:
    """Whether a charge may take days: cards are answered at once."""
    return charge["status"] == "pending" or (charge.get("payment_method_details") or {}).get("type") != "card"


def moved(context: Context, event: Json) -> Effect:
    """A debit began, was paid, or failed. The snapshot is enough: an end stays, and a beginning ends nothing."""
    charge = event["data"]["object"]
    if not is_delayed(charge):
        return ignored("no debit")
    paid = owner_of_payment(
        context.engine, context.client, payment_intent=id_of(charge.get("payment_intent")), charge=charge["id"]
    )
    if paid is None:
        return ignored("no payment of an invoice of ours")
    owner, house = paid.owner, house_of(context.client)
    settled = [] if charge["status"] == "pending" else _transactions(context, owner, charge)

    def write(session: Session) -> Handled:
        record(session, charge, owner=owner, livemode=context.client.livemode, now=context.now)
        for transaction in settled:
            fees.record(session, transaction, charge=charge, paid=paid, house=house, cause=event["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write


def _transactions(context: Context, owner: Owner, charge: Json) -> list[Json]:
    """The balance transactions of a debit that ended whose fees are not booked yet."""
    ids = [id_of(charge.get(name)) for name in ("balance_transaction", "failure_balance_transaction")]
    with Session(context.engine) as session:
        fresh = [
            found
            for found in ids
            if found is not None and session.get(StripeEffect, (owner.customer_id, effect(found))) is None
        ]
    return [context.client.retrieve_balance_transaction(found) for found in fresh]


def record(session: Session, charge: Json, *, owner: Owner, livemode: bool, now: datetime) -> bool:
    """Note how far a debit is, as its charge shows it; False if that is known. Moves no money. The caller commits.

    Raises:
        EventRefused: mode or currency do not fit the invoice.
    """
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    if bool(charge["livemode"]) is not livemode:
        raise EventRefused(f"{charge['id']} has livemode {charge['livemode']}, our key says {livemode}.")
    if charge["currency"].upper() != sync.currency:
        raise EventRefused(
            f"{charge['id']} is in {charge['currency'].upper()}, but invoice {sync.number} is in {sync.currency}."
        )
    return note_debit(
        session,
        customer_id=owner.customer_id,
        invoice_id=owner.invoice_id,
        provider=PROVIDER,
        external_id=charge["id"],
        amount=amounts.from_minor(charge["amount"], sync.currency),
        method=(charge.get("payment_method_details") or {}).get("type") or "unknown",
        state=STATES[charge["status"]],
        began_at=instant(charge["created"]),
        actor=ACTOR,
        now=now,
    )


def processing(client: Client, invoice: str) -> Json | None:
    """The payment of an invoice at Stripe that waits for a bank's answer, as its payment intent; None if none does.

    Raises:
        CallFailed: Stripe could not be asked.
    """
    for payment in client.list_invoice_payments(invoice=invoice, with_intents=True):
        intent = payment["payment"].get("payment_intent")
        if isinstance(intent, dict) and intent["status"] == "processing":
            return intent
    return None
