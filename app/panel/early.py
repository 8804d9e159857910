"""Paying early: the customer asks for the invoice of what was used so far, and gets it at once."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import CustomerView
from invoicing.early_bills import PeriodMoved, bill_now
from invoicing.errors import InvoicingError
from invoicing.finalization import finalize
from invoicing.provider import Provider
from invoicing.settings import Settings
from invoicing.tables import Invoice

ACTOR = "customer"


class TooSmallToPay(InvoicingError):
    """What was used so far is too little to be collected on its own. Nothing was closed."""

    code = "too_small_to_pay"


def pay_early(
    session: Session,
    customer: CustomerView,
    *,
    period_start: str,
    provider: Provider,
    settings: Settings,
    now: datetime,
) -> UUID:
    """Bill the period that the page showed, and make its draft final. Returns the invoice. The caller commits.

    Raises:
        PeriodMoved, NothingToBill, CannotBillNow.
        TooSmallToPay: it would only be carried forward; the caller rolls back.
    """
    try:
        seen = datetime.fromisoformat(period_start)
    except ValueError:
        seen = None
    if seen is None or seen.tzinfo is None:
        raise PeriodMoved("The page is too old. Go back, reload it, and look at what is unbilled now.")
    bill = bill_now(
        session,
        customer_id=customer.customer_id,
        cause="early",
        reason="Asked for in the billing panel",
        actor=ACTOR,
        settings=settings,
        now=now,
        period_start=seen,
    )
    invoice = session.get_one(Invoice, (customer.customer_id, bill.invoice_id))
    if invoice.state == "draft" and bill.created_at == now:
        invoice = finalize(
            session,
            customer_id=customer.customer_id,
            invoice_id=bill.invoice_id,
            provider=provider,
            actor=ACTOR,
            now=now,
        )
        if invoice.state not in ("final", "paid"):
            raise TooSmallToPay(
                "What you used so far is too little to be paid on its own. It stays on the invoice of this period."
            )
    return bill.invoice_id
