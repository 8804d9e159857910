"""Payouts: what Stripe sends to our bank, and what each of them was made of, cleared one movement at a time.

A payout stands in the house's books. Every balance transaction in it belongs to a customer, to Stripe as a fee of its
own, or to nobody that we know: that is kept in suspense, and a person is told. A customer's that is in another currency
than the customer's is in the house's books since it was exchanged; there is nothing left to clear.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing.movements.payouts import clear_transaction, mark_reconciled, payout_id, record_payout
from invoicing.movements.tasks import open_task, resolve_gone
from ledger.books import house_id, open_house
from stripe_gateway import amounts, disputes, exchanges, fees, refunds
from stripe_gateway.acts import ACTOR
from stripe_gateway.cash import PROVIDER, EventRefused, note_effect
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import instant
from stripe_gateway.house import House, house_of
from stripe_gateway.ownership import Paid, id_of, owner_of_payment
from stripe_gateway.tables import StripeEffect

OWN_MOVEMENTS = ("payout", "payout_failure", "payout_cancel")
"""Balance transactions that are the payout itself: it is in the house's books already."""


def record(session: Session, payout: Json, *, house: House, cause: str, now: datetime) -> None:
    """Bring a payout, as it is now, into the house's books. Repeating it changes nothing. The caller commits.

    Raises:
        EventRefused: it is of another mode.
        InvoicingError, LedgerError: the books refuse it.
    """
    if bool(payout["livemode"]) is not house.livemode:
        raise EventRefused(f"{payout['id']} has livemode {payout['livemode']}, our key says {house.livemode}.")
    currency = payout["currency"].upper()
    amount = amounts.from_minor(payout["amount"], currency)
    books = open_house(session, provider=PROVIDER, account=house.account, currency=currency, now=now)
    record_payout(
        session,
        provider=PROVIDER,
        account=house.account,
        currency=currency,
        external_id=payout["id"],
        amount=amount,
        status=payout["status"],
        arrival_at=instant(payout["arrival_date"]),
        at=instant(payout["created"]),
        actor=ACTOR,
        now=now,
    )
    note_effect(session, books.customer_id, f"po:{payout['id']}:{payout['status']}", cause=cause, now=now)
    if payout["status"] == "failed":
        open_task(
            session,
            kind="payout_failed",
            subject=payout["id"],
            title=f"A payout of {amount} {currency} did not reach the bank",
            text=f"Stripe says: {payout.get('failure_message') or payout.get('failure_code') or 'no reason given'}. "
            "The money is on the balance at Stripe again. Correct the bank account there.",
            cause=cause,
            now=now,
            details={"payout": payout["id"], "amount_minor": payout["amount"]},
        )


def clear(engine: Engine, client: Client, payout: Json, *, cause: str, now: datetime, renew: Callable[[], None]) -> int:
    """Clear every movement that a payout paid out, each in a transaction of its own; says how many were new.

    Safe to repeat and to be killed: what was cleared is skipped. `renew` is called between them, to keep a lease.

    Raises:
        CallFailed: Stripe could not be asked; what was cleared stays.
        GatewayError, InvoicingError, LedgerError: one of them does not fit; those before it stay cleared.
    """
    house, done = house_of(client), 0
    cleared = _cleared(engine, payout, house)
    for transaction in client.transactions_of_payout(payout["id"]):
        if transaction["type"] in OWN_MOVEMENTS or _effect(payout["id"], transaction) in cleared:
            continue
        paid = _behind(engine, client, transaction)
        with Session(engine) as session, session.begin():
            if clear_one(session, transaction, paid=paid, payout=payout, house=house, cause=cause, now=now):
                done += 1
        renew()
    with Session(engine) as session, session.begin():
        books = _books_of(payout, house)
        known = payout_id(provider=PROVIDER, external_id=payout["id"])
        mark_reconciled(session, customer_id=books, payout_id=known, now=now)
        note_effect(session, books, f"po:{payout['id']}:reconciled", cause=cause, now=now)
    return done


def _cleared(engine: Engine, payout: Json, house: House) -> set[str]:
    with Session(engine) as session:
        keys = session.scalars(
            select(StripeEffect.key).where(
                StripeEffect.customer_id == _books_of(payout, house),
                StripeEffect.key.startswith(f"po:{payout['id']}:txn_", autoescape=True),
            )
        )
        return set(keys)


def _books_of(payout: Json, house: House) -> UUID:
    return house_id(provider=PROVIDER, account=house.account, currency=payout["currency"].upper())


def _effect(payout: str, transaction: Json) -> str:
    return f"po:{payout}:{transaction['id']}"


def _behind(engine: Engine, client: Client, transaction: Json) -> Paid | None:
    """Whose money moved, as far as the transaction's source tells."""
    source = transaction["source"]
    if not isinstance(source, dict):
        return None
    if source["object"] == "charge":
        intent, charge = id_of(source.get("payment_intent")), source["id"]
    elif source["object"] in ("refund", "dispute"):
        intent, charge = id_of(source.get("payment_intent")), id_of(source.get("charge"))
    else:
        return None
    return owner_of_payment(engine, client, payment_intent=intent, charge=charge)


def clear_one(
    session: Session, transaction: Json, *, paid: Paid | None, payout: Json, house: House, cause: str, now: datetime
) -> bool:
    """Clear one balance transaction of a payout; False if it was cleared before. The caller commits.

    What it did is booked first if no event ever told of it: a fee, a refund, a dispute. One that nobody was known to
    own may be cleared again, once somebody is.
    """
    note_effect(session, _books_of(payout, house), _effect(payout["id"], transaction), cause=cause, now=now)
    if paid is not None:
        fits = exchanges.fits(session, transaction, paid.owner)
        was_exchanged = not fits and exchanges.is_booked(session, transaction)
        _book_source(session, transaction, paid=paid, house=house, cause=cause, now=now)
        if not fits and exchanges.is_booked(session, transaction):
            return not was_exchanged
    # What is in another currency than the customer's and could not be exchanged stays in suspense, for a person.
    return clear_transaction(
        session,
        provider=PROVIDER,
        account=house.account,
        currency=payout["currency"].upper(),
        payout=payout["id"],
        transaction=transaction["id"],
        customer_id=None if paid is None else paid.owner.customer_id,
        net=amounts.from_minor(transaction["net"], transaction["currency"]),
        category=transaction["reporting_category"],
        at=instant(transaction["created"]),
        actor=ACTOR,
        now=now,
    )


def _book_source(session: Session, transaction: Json, *, paid: Paid, house: House, cause: str, now: datetime) -> None:
    source, livemode = transaction["source"], house.livemode
    if source["object"] == "charge":
        # Of a debit that failed, the movement that took it back too: what Stripe kept of both is the fee.
        fees.record(session, transaction, charge=source, paid=paid, house=house, cause=cause, now=now)
    elif source["object"] == "refund":
        refunds.record(session, source, paid=paid, livemode=livemode, cause=cause, now=now)
        exchanges.record_refund(session, transaction, refund=source, paid=paid, house=house, cause=cause, now=now)
    elif source["object"] == "dispute":
        disputes.record(session, source, paid=paid, livemode=livemode, house=house, cause=cause, now=now)


def arrived(session: Session, payout: Json, *, now: datetime) -> None:
    """A payout that reached the bank after all settles the task about it. The caller commits."""
    if payout["status"] == "paid":
        resolve_gone(session, kind="payout_failed", subject=payout["id"], cause="It reached the bank.", now=now)
