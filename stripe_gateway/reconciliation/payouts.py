"""Payouts: each one at Stripe is in the house's books with its outcome, and what it was made of is cleared."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import or_, select, tuple_
from sqlalchemy.orm import Session

from invoicing.movements.payouts import find_payout
from invoicing.movements.tables import Payout
from ledger.books import house_id
from stripe_gateway import amounts, payouts
from stripe_gateway.cash import PROVIDER
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere
from stripe_gateway.house import house_of
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, Comparison

OPEN = ("pending", "in_transit")
MAY_FAIL_FOR = timedelta(days=14)
"""So long after it was paid, a payout may still come back from the bank: usually within five business days."""


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the payouts that were made within the window."""
    page = work.page("payouts", cursor)
    for payout in page.data:
        compare(work, payout)
    return page.after


def compare(work: Comparison, payout: Json) -> None:
    """Compare one payout, and clear what it was made of once Stripe says so."""
    work.count("payouts")
    work.see([payout["id"]])
    house = house_of(work.client)
    currency = payout["currency"].upper()
    books = house_id(provider=PROVIDER, account=house.account, currency=currency)
    with Session(work.engine, expire_on_commit=False) as session:
        known = find_payout(session, provider=PROVIDER, external_id=payout["id"])
    if not work.is_done(books, f"po:{payout['id']}:{payout['status']}"):

        def write(session: Session) -> None:
            payouts.record(session, payout, house=house, cause=CAUSE, now=work.now)
            payouts.arrived(session, payout, now=work.now)

        amount = f"{amounts.from_minor(payout['amount'], currency)} {currency}"
        text = f"{payout['id']} over {amount} is {payout['status']} at Stripe; we had not heard of it."
        kind = "payout_at_stripe_only" if known is None else "payout_behind"
        if not work.repair(kind, payout["id"], text, write):
            return
    if payout.get("reconciliation_status") == "completed" and (known is None or known.reconciled_at is None):
        _clear(work, payout)


def _clear(work: Comparison, payout: Json) -> None:
    """Clear what no event has cleared, each movement in a transaction of its own."""
    done = 0

    def clear(_session: Session) -> None:
        nonlocal done
        done = payouts.clear(work.engine, work.client, payout, cause=CAUSE, now=work.now, renew=lambda: None)

    # Outside of the note's transaction, which makes no calls: the note follows, and is no part of the money.
    cleared = work.attempt("payout_not_cleared", payout["id"], f"{payout['id']} could not be cleared.", clear)
    if cleared and done:
        text = f"{done} movements of {payout['id']} had not been cleared from the books they belong to."
        work.repair("payout_not_cleared", payout["id"], text, lambda session: None)  # noqa: ARG005 - only the note


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own payouts that no list has shown and that may still change: each is read by itself."""
    run = work.place.run
    recent = or_(Payout.arrival_at >= run.window_from - MAY_FAIL_FOR, Payout.status.in_(OPEN))
    query = select(Payout).where(Payout.provider == PROVIDER).order_by(Payout.customer_id, Payout.id).limit(PAGE)
    if not work.is_full:
        query = query.where(recent)
    if cursor is not None:
        query = query.where(tuple_(Payout.customer_id, Payout.id) > tuple(UUID(part) for part in cursor.split()))
    with Session(work.engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    for external_id in sorted(work.unseen([row.external_id for row in rows])):
        examine(work, external_id)
    return f"{rows[-1].customer_id} {rows[-1].id}" if len(rows) == PAGE else None


def examine(work: Comparison, external_id: str) -> None:
    """Read one payout and compare it."""
    try:
        payout = work.client.read("payouts", external_id)
    except NotThere:
        with Session(work.engine, expire_on_commit=False) as session:
            known = find_payout(session, provider=PROVIDER, external_id=external_id)
        if known is not None and known.status not in ("canceled", "failed"):
            text = f"{external_id}, {known.amount} {known.currency}, is {known.status} here; Stripe does not have it."
            work.differ("payout_missing_at_stripe", external_id, text)
        return
    compare(work, payout)
