"""Disputes: each one at Stripe is in the books with its state and its money, and each of ours is there."""

from uuid import UUID

from sqlalchemy import and_, or_, select, tuple_
from sqlalchemy.orm import Session

from invoicing.movements.tables import Dispute
from stripe_gateway import amounts, disputes
from stripe_gateway.cash import PROVIDER
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere
from stripe_gateway.house import house_of
from stripe_gateway.ownership import Owner
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, Comparison


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the disputes that were opened within the window."""
    page = work.page("disputes", cursor)
    for dispute in page.data:
        compare(work, dispute)
    return page.after


def compare(work: Comparison, dispute: Json) -> None:
    """Compare one dispute; those about payments that are not ours are not our business."""
    paid = work.paid_by(dispute)
    if paid is None:
        return
    work.count("disputes")
    work.see([dispute["id"]])
    customer_id = paid.owner.customer_id
    moved = [transaction["id"] for transaction in dispute.get("balance_transactions") or []]
    keys = [f"dp:{dispute['id']}:{dispute['status']}", *(f"bt:{transaction}" for transaction in moved)]
    if all(work.is_done(customer_id, key) for key in keys):
        return
    with Session(work.engine) as session:
        known = session.scalars(
            select(Dispute.id).where(
                Dispute.customer_id == customer_id,
                Dispute.provider == PROVIDER,
                Dispute.external_id == dispute["id"],
            )
        ).first()

    def write(session: Session) -> None:
        house = house_of(work.client)
        disputes.record(session, dispute, paid=paid, livemode=work.livemode, house=house, cause=CAUSE, now=work.now)

    amount = f"{amounts.from_minor(dispute['amount'], dispute['currency'])} {dispute['currency'].upper()}"
    text = f"{dispute['id']} over {amount} is {dispute['status']} at Stripe; we had not heard of it."
    kind = "dispute_at_stripe_only" if known is None else "dispute_behind"
    work.repair(kind, dispute["id"], text, write, owner=paid.owner)


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own disputes that no list has shown: each is read by itself."""
    run = work.place.run
    query = select(Dispute).where(Dispute.provider == PROVIDER).order_by(Dispute.customer_id, Dispute.id).limit(PAGE)
    if not work.is_full:
        in_window = Dispute.updated_at >= run.window_from
        if run.asked_to is not None:
            query = query.where(and_(in_window, Dispute.updated_at <= run.asked_to))
        else:
            query = query.where(or_(in_window, Dispute.closed_at.is_(None)))
    if cursor is not None:
        query = query.where(tuple_(Dispute.customer_id, Dispute.id) > tuple(UUID(part) for part in cursor.split()))
    with Session(work.engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    for external_id in sorted(work.unseen([row.external_id for row in rows])):
        examine(work, external_id)
    return f"{rows[-1].customer_id} {rows[-1].id}" if len(rows) == PAGE else None


def examine(work: Comparison, external_id: str) -> None:
    """Read one dispute and compare it."""
    try:
        dispute = work.client.read("disputes", external_id)
    except NotThere:
        with Session(work.engine, expire_on_commit=False) as session:
            row = session.scalars(
                select(Dispute).where(Dispute.provider == PROVIDER, Dispute.external_id == external_id)
            ).one_or_none()
        if row is not None:
            owner = Owner(row.customer_id, row.invoice_id) if row.invoice_id else None
            text = f"{external_id} is {row.status or 'known by its money alone'} here; Stripe does not have it."
            work.differ("dispute_missing_at_stripe", external_id, text, owner=owner, customer_id=row.customer_id)
        return
    compare(work, dispute)
