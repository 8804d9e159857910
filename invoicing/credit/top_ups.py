"""Top-ups: prepaid credit is sold by an invoice that is final at once, and usable once that is paid."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.grants import CreditConflict, CreditRefused, check_amount, check_expiry
from invoicing.customers import get_customer
from invoicing.drafts import checked_reason
from invoicing.finalization import give_number
from invoicing.history import record
from invoicing.provider import CollectionOrder, OrderLine, Provider
from invoicing.tables import CreditGrant, Customer, Invoice, Line
from ledger import accounts
from ledger.books import lock_books
from ledger.documents import open_documents
from ledger.money import plain
from ledger.placing import next_billing_period

DESCRIPTION = "Prepaid credit"


def top_up(
    session: Session,
    *,
    customer_id: UUID,
    top_up_id: UUID,
    amount: Decimal,
    provider: Provider,
    actor: str,
    now: datetime,
    reason: str = "Prepaid credit bought",
    expires_at: datetime | None = None,
    currency: str | None = None,
) -> Invoice:
    """Sell prepaid credit: a final invoice over `amount` (major units), collected like any other. The caller commits.

    The same id again returns the first invoice. The lot has the invoice's id; it can be used from the moment on which
    the invoice is paid, and is gone if that is made void or given up. There is no tax on it: what it pays for later is
    taxed then. `expires_at` as in `grant_credit`; None: never.

    Raises:
        CustomerNotFound, ReasonMissing, CreditRefused (its subclasses say what of).
        CreditConflict: the id was used before for something else.
    """
    reason = checked_reason(reason)
    customer = get_customer(session, customer_id=customer_id)
    check_amount(amount, customer.currency, currency=currency)
    lock_books(session, [customer_id])
    known = session.get(CreditGrant, (customer_id, top_up_id))
    if known is not None or session.get(Invoice, (customer_id, top_up_id)) is not None:
        if known is None or (known.invoice_id, known.amount, known.expires_at) != (top_up_id, amount, expires_at):
            raise CreditConflict("Something with this id was booked before with other details; nothing was written.")
        return session.get_one(Invoice, (customer_id, top_up_id))
    check_expiry(expires_at, now=now)
    collects = provider.of(session, customer_id=customer_id)
    minimum = collects.minimum(customer.currency)
    if amount < minimum:
        raise CreditRefused(
            f"{plain(amount)} {customer.currency} are too little to be collected. Buy at least {plain(minimum)}."
        )
    invoice, line = _write_invoice(session, customer_id, top_up_id, amount, customer.currency, now=now)
    _post_sale(session, invoice, amount, actor=actor, reason=reason, now=now)
    invoice.provider = collects.name
    row = give_number(session, invoice)
    invoice.exact_total = invoice.total = invoice.amount_due = amount
    invoice.credits_applied = Decimal(0)
    invoice.finalized_at = now
    record(
        session,
        invoice,
        action="sold",
        actor=actor,
        now=now,
        to_state="final",
        reason=reason,
        details={"number": invoice.number, "total": plain(amount), "due": plain(amount)},
    )
    session.add(
        CreditGrant(
            customer_id=customer_id,
            id=top_up_id,
            account=accounts.CREDITS_PREPAID,
            amount=amount,
            reason=reason,
            actor=actor,
            created_at=now,
            currency=customer.currency,
            expires_at=expires_at,
            invoice_id=top_up_id,
        )
    )
    session.flush()
    collects.submit(session, _order(invoice, line, row, amount, now=now), now=now)
    return invoice


def open_top_ups(session: Session, *, customer_id: UUID) -> list[Invoice]:
    """The customer's top-ups that are not paid yet, the oldest first."""
    return list(
        session.scalars(
            select(Invoice)
            .where(Invoice.customer_id == customer_id, Invoice.kind == "top_up", Invoice.state == "final")
            .order_by(Invoice.finalized_at, Invoice.id)
        )
    )


def _write_invoice(
    session: Session, customer_id: UUID, invoice_id: UUID, amount: Decimal, currency: str, *, now: datetime
) -> tuple[Invoice, Line]:
    """The draft with its one line. It stands in the period in which it was bought, of which it bills nothing."""
    period = next_billing_period(session, customer_id=customer_id, start=now, now=now)
    open_documents(session, [(customer_id, invoice_id, None)], kind="invoice", now=now)
    before = session.scalar(
        select(func.max(Invoice.generation)).where(
            Invoice.customer_id == customer_id, Invoice.kind == "top_up", Invoice.period_start == period.start
        )
    )
    invoice = Invoice(
        customer_id=customer_id,
        id=invoice_id,
        kind="top_up",
        period_start=period.start,
        period_end=period.end,
        generation=1 + (before or 0),
        currency=currency,
        compiled_at=now,
        finalize_after=now,
    )
    session.add(invoice)
    session.flush()
    session.refresh(invoice)
    line = Line(
        customer_id=customer_id,
        invoice_id=invoice_id,
        position=1,
        contra_account=accounts.CREDITS_PREPAID,
        usage_period_start=period.start,
        description=DESCRIPTION,
        amount=amount,
        rounded=amount,
    )
    session.add(line)
    session.flush()
    return invoice, line


def _post_sale(session: Session, invoice: Invoice, amount: Decimal, *, actor: str, reason: str, now: datetime) -> None:
    booking = Booking(
        invoice.customer_id,
        source="invoicing:top_up",
        event_id=str(invoice.id),
        kind="grant",
        at=now,
        actor=actor,
        reason=reason,
    )
    booking.move("sold", amount, debit=accounts.RECEIVABLE, credit=accounts.CREDITS_PREPAID, document_id=invoice.id)
    booking.post(session, now=now)


def _order(invoice: Invoice, line: Line, customer: Customer, amount: Decimal, *, now: datetime) -> CollectionOrder:
    if invoice.number is None:
        raise AssertionError("an order is written after the number is given")
    return CollectionOrder(
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        number=invoice.number,
        currency=invoice.currency,
        amount_due=amount,
        collection_method=customer.collection_method,
        period_start=now,
        period_end=now,
        lines=[
            OrderLine(
                line_id=line.id, item=None, description=DESCRIPTION, amount=amount, period_start=now, period_end=now
            )
        ],
        customer_name=customer.name,
        customer_email=customer.email,
        customer_external_id=customer.external_id,
        title=DESCRIPTION,
    )
