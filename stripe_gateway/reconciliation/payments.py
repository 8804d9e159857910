"""Payments: every paid invoice payment at Stripe is in the books, with its amount, and every one in the books there."""

from uuid import UUID

from sqlalchemy import and_, select, tuple_
from sqlalchemy.orm import Session

from invoicing.tables import Payment
from stripe_gateway import amounts, cash
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere
from stripe_gateway.ownership import Owner
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, Comparison


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the invoice payments that were begun at Stripe within the window."""
    page = work.page("invoice_payments", cursor)
    _compare_unseen(work, page.data)
    return page.after


def _compare_unseen(work: Comparison, found: list[Json]) -> None:
    """Those that are paid, each once in a run: an invoice that was behind has had its payments compared."""
    paid = [payment for payment in found if payment["status"] == "paid"]
    unseen = work.unseen([payment["id"] for payment in paid])
    compare(work, [payment for payment in paid if payment["id"] in unseen])


def compare(work: Comparison, paid: list[Json]) -> None:
    """Compare paid invoice payments; those of invoices that are not ours are not our business."""
    known = work.owners(payment["invoice"] for payment in paid)
    owned = [
        (payment, Owner(row.customer_id, row.invoice_id))
        for payment in paid
        if (row := known.get(payment["invoice"])) is not None and row.invoice_id is not None
    ]
    recorded = _recorded(work, [(owner.customer_id, payment["id"]) for payment, owner in owned])
    for payment, owner in owned:
        work.count("payments")
        work.see([payment["id"]])
        record = recorded.get(payment["id"])
        amount = amounts.from_minor(payment["amount_paid"], payment["currency"])
        if record is None and _is_our_own(work, payment, owner):
            continue  # we told Stripe of it: our books have it from where it really arrived
        if record is None:
            _record(work, payment, owner)
        elif (record.invoice_id, record.amount) != (owner.invoice_id, amount):
            text = (
                f"{payment['id']} is {amount} of {payment['invoice']} at Stripe, "
                f"and {record.amount} of invoice {record.invoice_id} here."
            )
            work.differ("payment_differs", payment["id"], text, owner=owner)


def compare_of(work: Comparison, invoice: str) -> None:
    """Compare the payments of one invoice, of which Stripe has more than we."""
    _compare_unseen(work, list(work.client.list_invoice_payments(invoice=invoice)))


def _recorded(work: Comparison, keys: list[tuple[UUID, str]]) -> dict[str, Payment]:
    with Session(work.engine, expire_on_commit=False) as session:
        rows = session.scalars(
            select(Payment).where(
                tuple_(Payment.customer_id, Payment.external_id).in_(keys), Payment.provider == cash.PROVIDER
            )
        )
        return {row.external_id: row for row in rows}


def _is_our_own(work: Comparison, payment: Json, owner: Owner) -> bool:
    with Session(work.engine) as session:
        return cash.is_our_outside_payment(session, payment, owner=owner)


def _record(work: Comparison, payment: Json, owner: Owner) -> None:
    def write(session: Session) -> None:
        cash.record(session, payment, owner=owner, livemode=work.livemode, cause=CAUSE, now=work.now)

    amount = amounts.from_minor(payment["amount_paid"], payment["currency"])
    text = (
        f"{payment['id']} paid {amount} {payment['currency'].upper()} of {payment['invoice']}; we had not heard of it."
    )
    work.repair("payment_at_stripe_only", payment["id"], text, write, owner=owner)


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own payments that no list has shown: each is read by itself."""
    run = work.place.run
    query = (
        select(Payment)
        .where(Payment.provider == cash.PROVIDER)
        .order_by(Payment.customer_id, Payment.external_id)
        .limit(PAGE)
    )
    if not work.is_full:
        in_window = Payment.recorded_at >= run.window_from
        query = query.where(in_window if run.asked_to is None else and_(in_window, Payment.recorded_at <= run.asked_to))
    if cursor is not None:
        customer, _, external_id = cursor.partition(" ")
        query = query.where(tuple_(Payment.customer_id, Payment.external_id) > (UUID(customer), external_id))
    with Session(work.engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    for external_id in sorted(work.unseen([row.external_id for row in rows])):
        examine(work, external_id)
    return f"{rows[-1].customer_id} {rows[-1].external_id}" if len(rows) == PAGE else None


def examine(work: Comparison, external_id: str) -> None:
    """Read one invoice payment and compare it with what stands here under its id."""
    try:
        payment = work.client.read("invoice_payments", external_id)
    except NotThere:
        payment = None
    if payment is not None and payment["status"] == "paid":
        compare(work, [payment])
        return
    with Session(work.engine, expire_on_commit=False) as session:
        row = session.scalars(
            select(Payment).where(Payment.provider == cash.PROVIDER, Payment.external_id == external_id)
        ).one_or_none()
    if row is not None:
        state = "does not have it" if payment is None else f"says it is {payment['status']}"
        text = f"{external_id}, {row.amount}, is recorded as paid through Stripe; Stripe {state}."
        work.differ("payment_here_only", external_id, text, owner=Owner(row.customer_id, row.invoice_id))
