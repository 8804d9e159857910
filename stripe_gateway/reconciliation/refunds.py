"""Refunds: each one at Stripe is in the books with its outcome, whoever made it, and each of ours is there."""

from uuid import UUID

from sqlalchemy import and_, or_, select, tuple_
from sqlalchemy.orm import Session

from invoicing.movements.tables import Refund
from stripe_gateway import amounts, refunds
from stripe_gateway.cash import PROVIDER
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere
from stripe_gateway.ownership import Owner, Paid
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, Comparison

OPEN = ("requested", "pending")
OVER = ("failed", "canceled")


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the refunds that were made at Stripe within the window."""
    page = work.page("refunds", cursor)
    for refund in page.data:
        compare(work, refund)
    return page.after


def compare(work: Comparison, refund: Json) -> None:
    """Compare one refund; those of payments that are not ours are not our business."""
    paid = work.paid_by(refund)
    if paid is None:
        return
    work.count("refunds")
    work.see([refund["id"]])
    row = _row(work, paid.owner.customer_id, refund["id"])
    amount = amounts.from_minor(refund["amount"], refund["currency"])
    money = f"{amount} {refund['currency'].upper()}"
    if row is not None and row.amount != amount:
        text = f"{refund['id']} gives back {money} at Stripe, and {row.amount} here."
        work.differ("refund_differs", refund["id"], text, owner=paid.owner)
    elif not work.is_done(paid.owner.customer_id, f"re:{refund['id']}:{refund['status']}"):
        if row is None and (refund.get("metadata") or {}).get("ledger_refund_id") and work.is_being_changed(paid.owner):
            work.count("pending")
            return
        _take_over(work, refund, paid, known=row is not None, money=money)


def _take_over(work: Comparison, refund: Json, paid: Paid, *, known: bool, money: str) -> None:
    def write(session: Session) -> None:
        refunds.record(session, refund, paid=paid, livemode=work.livemode, cause=CAUSE, now=work.now)

    kind = "refund_behind" if known else "refund_at_stripe_only"
    text = f"{refund['id']} over {money} is {refund['status']} at Stripe; we had not heard of it."
    work.repair(kind, refund["id"], text, write, owner=paid.owner)


def _row(work: Comparison, customer_id: UUID, external_id: str) -> Refund | None:
    with Session(work.engine, expire_on_commit=False) as session:
        return session.scalars(
            select(Refund).where(
                Refund.customer_id == customer_id, Refund.provider == PROVIDER, Refund.external_id == external_id
            )
        ).one_or_none()


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own refunds that no list has shown: each is read by itself."""
    run = work.place.run
    query = (
        select(Refund)
        .where(Refund.provider == PROVIDER, Refund.external_id.is_not(None))
        .order_by(Refund.customer_id, Refund.id)
        .limit(PAGE)
    )
    if not work.is_full:
        in_window = Refund.requested_at >= run.window_from
        if run.asked_to is not None:
            query = query.where(and_(in_window, Refund.requested_at <= run.asked_to))
        else:
            query = query.where(or_(in_window, Refund.state.in_(OPEN)))
    if cursor is not None:
        query = query.where(tuple_(Refund.customer_id, Refund.id) > tuple(UUID(part) for part in cursor.split()))
    with Session(work.engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    for external_id in sorted(work.unseen([str(row.external_id) for row in rows])):
        examine(work, external_id)
    return f"{rows[-1].customer_id} {rows[-1].id}" if len(rows) == PAGE else None


def examine(work: Comparison, external_id: str) -> None:
    """Read one refund and compare it."""
    try:
        refund = work.client.read("refunds", external_id)
    except NotThere:
        with Session(work.engine, expire_on_commit=False) as session:
            row = session.scalars(
                select(Refund).where(Refund.provider == PROVIDER, Refund.external_id == external_id)
            ).one_or_none()
        if row is not None and row.state not in OVER:
            text = f"{external_id}, {row.amount}, is {row.state} here; Stripe does not have it."
            owner = Owner(row.customer_id, row.invoice_id)
            work.differ("refund_missing_at_stripe", external_id, text, owner=owner)
        return
    compare(work, refund)
