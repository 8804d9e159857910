"""Payouts: what the provider sends to our bank, in the house's books, and whose money it was."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.movements.exchanges import is_exchanged
from invoicing.movements.refusals import PayoutConflict
from invoicing.movements.tables import Payout
from invoicing.movements.tasks import open_task, resolve_gone
from ledger import accounts
from ledger.books import NAMESPACE, house_id, lock_books, open_house
from ledger.documents import open_documents
from ledger.entries import entry_id
from ledger.money import minor_units, plain
from ledger.tables import Entry

STATUSES = ("pending", "in_transit", "paid", "canceled", "failed")
"""From the first to the last: a paid payout can fail, days later. Events come in any order; none takes it back."""

OF_THE_PROVIDER = frozenset({"fee", "tax", "network_cost", "stripe_fee", "stripe_fx_fee", "tax_fee"})
"""Categories of what the provider itself charges us, for no customer.

Source: https://docs.stripe.com/reports/reporting-categories
"""

OF_PAYOUTS = frozenset({"payout", "payout_reversal", "payout_cancel", "payout_failure"})
"""Categories of the payouts themselves, which `record_payout` books."""


def payout_id(*, provider: str, external_id: str) -> UUID:
    """Our id of a payout, the same whoever hears of it first."""
    return uuid5(NAMESPACE, f"payout\x1f{provider}\x1f{external_id}")


def find_payout(session: Session, *, provider: str, external_id: str) -> Payout | None:
    """The payout that the provider calls so; None if we do not know it."""
    return session.scalar(
        select(Payout)
        .where(Payout.provider == provider, Payout.external_id == external_id)
        .execution_options(populate_existing=True)
    )


def record_payout(
    session: Session,
    *,
    provider: str,
    account: str,
    currency: str,
    external_id: str,
    amount: Decimal,
    status: str,
    arrival_at: datetime | None,
    at: datetime,
    actor: str,
    now: datetime,
) -> Payout:
    """Write down how far a payout is; the house's books are opened at its first. The caller commits.

    `amount` is in major units of `currency`, negative if the provider takes it from our bank; `status` is pending,
    in_transit, paid, canceled or failed, `at` when it became so. Paid, the money is in the bank; failed after that, it
    is with the provider again. A status earlier than the known one changes nothing.

    Raises:
        PayoutConflict: it is known with another amount or account, or status or amount are none.
    """
    if status not in STATUSES:
        raise PayoutConflict(f"{status!r} is no status of a payout. It is one of: {', '.join(STATUSES)}.")
    if not amount.is_finite() or amount == 0 or amount != round(amount, minor_units(currency)):
        raise PayoutConflict(f"Payout {external_id} has {amount}: no amount in whole minor units of {currency}.")
    house = open_house(session, provider=provider, account=account, currency=currency, now=now).customer_id
    lock_books(session, [house])
    key = (house, payout_id(provider=provider, external_id=external_id))
    payout = session.get(Payout, key, populate_existing=True)
    if payout is None:
        open_documents(session, [(*key, None)], kind="payout", now=now)
        payout = Payout(
            customer_id=house,
            id=key[1],
            provider=provider,
            account=account,
            currency=currency,
            external_id=external_id,
            amount=amount,
            status="pending",
            arrival_at=arrival_at,
        )
        session.add(payout)
        session.flush()
    elif payout.amount != amount:
        raise PayoutConflict(
            f"Payout {external_id} is known with {plain(payout.amount)} {currency}; now it says {plain(amount)}. "
            "Nothing was written; a person must compare it with the provider."
        )
    if STATUSES.index(status) <= STATUSES.index(payout.status):
        return payout
    was_paid, payout.status = payout.paid_at is not None, status
    payout.arrival_at = arrival_at or payout.arrival_at
    if status == "paid":
        payout.paid_at = at
        booking = _booking("payout", payout, at=at, actor=actor)
        booking.move("bank", amount, debit=accounts.BANK, credit=accounts.STRIPE, document_id=payout.id)
        booking.post(session, now=now)
    elif status in ("canceled", "failed"):
        payout.failed_at = at
        if was_paid:
            paid = _booking("payout", payout, at=at, actor=actor).transaction_id
            booking = _booking("payout failed", payout, at=at, actor=actor)
            booking.take_back(session.get_one(Entry, (house, entry_id(paid, "bank"))))
            booking.post(session, now=now)
    session.flush()
    return payout


def _booking(source: str, payout: Payout, *, at: datetime, actor: str) -> Booking:
    return Booking(
        payout.customer_id,
        source=f"{source}:{payout.provider}",
        event_id=payout.external_id,
        kind="payout",
        at=at,
        actor=actor,
        reason=f"Payout {payout.external_id} {payout.status}",
    )


def mark_reconciled(session: Session, *, customer_id: UUID, payout_id: UUID, now: datetime) -> None:
    """Note that every transaction of the payout was cleared. The caller commits."""
    payout = session.get_one(Payout, (customer_id, payout_id), with_for_update=True, populate_existing=True)
    if payout.reconciled_at is None:
        payout.reconciled_at = now
        session.flush()


def clear_transaction(
    session: Session,
    *,
    provider: str,
    account: str,
    currency: str,
    payout: str,
    transaction: str,
    customer_id: UUID | None,
    net: Decimal,
    category: str,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """Clear one balance transaction of a payout from its customer's books; False if there was nothing (more) to do.

    `net` is in major units of `currency`, signed: what of it is in the payout. A customer's goes from the customer's
    books to the house's, in two linked transactions of one database transaction. What the provider charges us itself is
    an expense of the house. What belongs to nobody we know stands in assets:suspense with a task "unknown_money",
    until it is cleared again with its customer. `payout` is the provider's id of it. The caller commits each by itself:
    it holds the locks of two books.

    Raises:
        EntryConflict: the transaction was cleared before with another amount.
        PayoutConflict: it was cleared before from another customer's books.
    """
    if category in OF_PAYOUTS or net == 0:
        return False
    house = house_id(provider=provider, account=account, currency=currency)
    # The customer's first: whoever booked what the transaction did holds it already, and would meet us the other way.
    books = {} if customer_id is None else lock_books(session, [customer_id])
    open_house(session, provider=provider, account=account, currency=currency, now=now)
    books |= lock_books(session, [house])
    owner = customer_id if customer_id in books and books[customer_id].currency == currency else None
    labels = {"payout": payout, "transaction": transaction, "category": category}
    house_side = Booking(
        house,
        source=f"clearing house:{provider}",
        event_id=transaction,
        kind="payout",
        at=at,
        actor=actor,
        reason=f"{category} {transaction} in payout {payout}",
        labels=labels,
    )
    if owner is not None:
        return _clear(session, house_side, owner=owner, provider=provider, net=net, at=at, actor=actor, now=now)
    if customer_id is None and category in OF_THE_PROVIDER:
        house_side.move("fee", net, debit=accounts.STRIPE, credit=accounts.PROVIDER_FEES, document_id=None)
        return house_side.post(session, now=now) > 0
    if session.get(Entry, (house, entry_id(house_side.transaction_id, "customer"))) is not None or is_exchanged(
        session, provider=provider, transaction=transaction
    ):
        return False  # its customer was known before
    house_side.move("suspense", net, debit=accounts.STRIPE, credit=accounts.SUSPENSE, document_id=None)
    if house_side.post(session, now=now) == 0:
        return False
    currencies = "" if customer_id is None else f" Its customer's books are not in {currency}, so they cannot hold it."
    open_task(
        session,
        kind="unknown_money",
        subject=f"{provider}:{transaction}",
        title=f"{plain(net)} {currency} in a payout belong to nobody we know",
        text=f"{category} {transaction} in payout {payout} is no customer's.{currencies} It stands in "
        f"{accounts.SUSPENSE}. Find out at {provider} whose it is; the next reconciliation clears it if it is ours.",
        cause=f"payout {payout}",
        now=now,
        details={**labels, "net": plain(net), "currency": currency, "customer": str(customer_id or "")},
    )
    return True


def _clear(
    session: Session,
    house_side: Booking,
    *,
    owner: UUID,
    provider: str,
    net: Decimal,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    house = house_side.customer_id
    transaction = house_side.labels["transaction"]
    customer_side = Booking(
        owner,
        source=f"clearing customer:{provider}",
        event_id=transaction,
        kind="payout",
        at=at,
        actor=actor,
        reason=house_side.reason,
        labels={**house_side.labels, "linked": str(house_side.transaction_id)},
    )
    customer_side.move("house", net, debit=accounts.HOUSE, credit=accounts.STRIPE, document_id=None)
    house_side.labels["customer"] = str(owner)
    house_side.labels["linked"] = str(customer_side.transaction_id)
    before = session.get(Entry, (house, entry_id(house_side.transaction_id, "customer")))
    if before is not None and before.labels.get("customer") != str(owner):
        raise PayoutConflict(
            f"{transaction} was cleared from the books of {before.labels.get('customer')}, not of {owner}. Nothing was "
            "written; a person must find out whose it is."
        )
    suspended = session.get(Entry, (house, entry_id(house_side.transaction_id, "suspense")))
    if suspended is not None:
        house_side.take_back(suspended)
    house_side.move("customer", net, debit=accounts.STRIPE, credit=accounts.CUSTOMERS, document_id=None)
    added = house_side.post(session, now=now) + customer_side.post(session, now=now)
    if suspended is not None:
        cause = f"{actor}: cleared from the books of {owner}"
        resolve_gone(session, kind="unknown_money", subject=f"{provider}:{transaction}", cause=cause, now=now)
    return added > 0
