"""Customers: each stands at Stripe, names us, and has a balance of 0 there, so that nothing changes what is due."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from stripe_gateway import amounts, customers, overpayments
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere
from stripe_gateway.ownership import Owner
from stripe_gateway.reconciliation.comparison import CAUSE, PAGE, UNSETTLED, Comparison
from stripe_gateway.tables import StripeCustomer, StripeOperation


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of all customers: a balance changes without any list that says so, and 100 come with one call."""
    page = work.page("customers", cursor, in_window=False)
    compare(work, page.data)
    return page.after


def compare(work: Comparison, found: list[Json]) -> None:
    """Compare customers as Stripe shows them; those that are not ours are not our business."""
    known = work.owners(customer["id"] for customer in found)
    for customer in found:
        row = known.get(customer["id"])
        if row is None:
            continue
        work.count("customers")
        work.see([customer["id"]])
        named = (customer.get("metadata") or {}).get("ledger_customer_id")
        if named != str(row.customer_id):
            text = f"{customer['id']} is our customer {row.customer_id}; its metadata name {named or 'nobody'}."
            work.differ("customer_differs", customer["id"], text, customer_id=row.customer_id)
        balance = customer.get("balance") or 0
        if balance and not _goes_back_to_zero(work, customer, row.customer_id):
            currency = (customer.get("currency") or "usd").upper()
            amount = amounts.from_minor(abs(balance), currency)
            what = "owes" if balance > 0 else "has a credit of"
            text = f"{customer['id']} {what} {amount} {currency} at Stripe."
            work.differ("customer_balance", customer["id"], text, customer_id=row.customer_id)


def _goes_back_to_zero(work: Comparison, customer: Json, customer_id: UUID) -> bool:
    """Whether the balance is being brought back to 0, or is from now on: of what was paid too much we had not heard.

    Only if that explains all of it: what somebody gave or took by hand at Stripe is for a person to decide.
    """
    under_way = select(StripeOperation.id).where(
        StripeOperation.customer_id == customer_id,
        StripeOperation.kind == "balance",
        StripeOperation.state.in_(UNSETTLED),
    )
    with Session(work.engine) as session:
        if session.scalars(under_way).first() is not None:
            work.count("pending")
            return True
    if customer["balance"] > 0:
        return False
    overpaid = {
        invoice["id"]: invoice
        for invoice in work.client.list_invoices(customer=customer["id"])
        if invoice["amount_overpaid"] > 0
    }
    owners = [
        (Owner(row.customer_id, row.invoice_id), overpaid[external_id])
        for external_id, row in work.owners(overpaid).items()
        if row.invoice_id is not None
    ]
    with Session(work.engine) as session:
        unheard = [found for found in owners if not overpayments.is_known(session, *found)]
    if sum(invoice["amount_overpaid"] for _, invoice in unheard) != -customer["balance"]:
        return False

    def write(session: Session) -> None:
        for owner, invoice in unheard:
            overpayments.record(session, invoice, owner=owner, cause=CAUSE, now=work.now)

    numbers = " and ".join(invoice["number"] or invoice["id"] for _, invoice in unheard)
    text = f"More than was due was paid for {numbers}; the balance of {customer['id']} at Stripe goes back to 0."
    return work.repair("customer_balance", customer["id"], text, write, customer_id=customer_id)


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own customers that the list has not shown: Stripe leaves out who was deleted."""
    query = (
        select(StripeCustomer.customer_id, StripeCustomer.external_id, StripeCustomer.deleted_at)
        .where(StripeCustomer.state == "done")
        .order_by(StripeCustomer.customer_id)
        .limit(PAGE)
    )
    if cursor is not None:
        query = query.where(StripeCustomer.customer_id > UUID(cursor))
    with Session(work.engine) as session:
        rows = session.execute(query).all()
    unseen = work.unseen([str(external_id) for _, external_id, _ in rows])
    for customer_id, external_id, deleted_at in rows:
        if deleted_at is not None:
            _is_gone(work, customer_id, str(external_id))
        elif external_id in unseen:
            examine(work, str(external_id))
    return str(rows[-1][0]) if len(rows) == PAGE else None


def examine(work: Comparison, external_id: str) -> None:
    """Read one customer and compare it."""
    row = work.owners([external_id]).get(external_id)
    if row is None:
        return
    try:
        customer = work.client.read("customers", external_id)
    except NotThere:
        _is_gone(work, row.customer_id, external_id)
        return
    if not customer.get("deleted"):
        compare(work, [customer])
        return
    customers.refresh(work.engine, work.client, customer_id=row.customer_id, now=work.now)
    _is_gone(work, row.customer_id, external_id)


def _is_gone(work: Comparison, customer_id: UUID, external_id: str) -> None:
    text = f"{external_id} does not exist at Stripe any more; nothing can be charged automatically."
    work.differ("customer_deleted", external_id, text, customer_id=customer_id)
