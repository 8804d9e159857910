"""What we believe of an invoice: its sync, its state in the books, what was paid and credited."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Engine, func, select, tuple_
from sqlalchemy.orm import Session

from invoicing.tables import Invoice, Payment
from stripe_gateway.ownership import Owner
from stripe_gateway.tables import StripeCustomer, StripeSync


@dataclass(frozen=True, slots=True)
class Belief:
    """Our side of one submitted invoice, in major units; `received` is all money, also what came past Stripe."""

    sync: StripeSync
    state: str
    amount_credited: Decimal
    received: Decimal
    customer: str | None

    @property
    def owner(self) -> Owner:
        return Owner(self.sync.customer_id, self.sync.invoice_id)

    @property
    def label(self) -> str:
        """How texts name it."""
        return f"Invoice {self.sync.number}"


def beliefs_of(engine: Engine, owners: Iterable[Owner]) -> dict[Owner, Belief]:
    """Our side of these invoices, as it is now; invoices that were never submitted are missing."""
    keys = sorted({(owner.customer_id, owner.invoice_id) for owner in owners})
    if not keys:
        return {}
    paid = (
        select(Payment.customer_id, Payment.invoice_id, func.sum(Payment.amount).label("received"))
        .where(tuple_(Payment.customer_id, Payment.invoice_id).in_(keys))
        .group_by(Payment.customer_id, Payment.invoice_id)
        .subquery()
    )
    query = (
        select(StripeSync, Invoice.state, Invoice.amount_credited, paid.c.received, StripeCustomer.external_id)
        .join(Invoice, (Invoice.customer_id == StripeSync.customer_id) & (Invoice.id == StripeSync.invoice_id))
        .join(StripeCustomer, StripeCustomer.customer_id == StripeSync.customer_id)
        .outerjoin(paid, (paid.c.customer_id == StripeSync.customer_id) & (paid.c.invoice_id == StripeSync.invoice_id))
        .where(tuple_(StripeSync.customer_id, StripeSync.invoice_id).in_(keys))
    )
    with Session(engine, expire_on_commit=False) as session:
        rows = session.execute(query).all()
    found = {}
    for sync, state, credited, received, customer in rows:
        owner = Owner(sync.customer_id, sync.invoice_id)
        found[owner] = Belief(sync, state, credited, received or Decimal(0), customer)
    return found


def belief_of(engine: Engine, owner: Owner) -> Belief | None:
    """Our side of one invoice, as it is now."""
    return beliefs_of(engine, [owner]).get(owner)
