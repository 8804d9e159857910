"""What the demo's staff did to last month's drafts: corrections, and one that waits for a second person."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from app.composition import Billing
from app.demo.world import CUSTOMERS, DemoCustomer
from invoicing.adjustments import add_charge, credit_line, waive_line
from invoicing.customers import customer_id_for
from invoicing.drafts import InvoiceView, get_invoice, list_invoices
from invoicing.tables import Line
from ledger.money import invoice_exponent

AGENT = "agent@demo.test"
APPROVER = "approver@demo.test"
SUPPORT_PLAN = Decimal("29.00")
MIGRATION = Decimal("250.00")
"""Above the default approval limit."""


def review_drafts(billing: Billing, *, now: datetime) -> None:
    """Adjust the newest draft of those customers whose role says so; a draft that was adjusted before is left alone."""
    for customer in CUSTOMERS:
        if customer.role in ("adjusted", "unapproved", "waived"):
            with Session(billing.engine) as session, session.begin():
                _review(session, billing, customer, now=now)


def _review(session: Session, billing: Billing, customer: DemoCustomer, *, now: datetime) -> None:
    customer_id = customer_id_for(customer.external_id)
    drafts = [i for i in list_invoices(session, customer_id=customer_id) if i.state == "draft"]
    if not drafts:
        return
    view = get_invoice(session, customer_id=customer_id, invoice_id=drafts[0].id)
    if view.adjustments:
        return
    if customer.role == "adjusted":
        _charge(
            session, billing, view, SUPPORT_PLAN, "Support plan", "Booked by telephone for the whole month.", now=now
        )
        _credit_a_fifth(session, billing, view, now=now)
    elif customer.role == "unapproved":
        _charge(
            session, billing, view, MIGRATION, "Assisted migration", "Agreed offer for moving the archive.", now=now
        )
    else:
        waive_line(
            session,
            customer_id=customer_id,
            invoice_id=view.invoice.id,
            expected_version=view.invoice.version,
            line_id=_smallest_line(view).id,
            reason="The volume was left over after a failed deployment of ours.",
            actor=AGENT,
            settings=billing.settings,
            now=now,
        )


def _charge(
    session: Session,
    billing: Billing,
    view: InvoiceView,
    amount: Decimal,
    description: str,
    reason: str,
    *,
    now: datetime,
) -> None:
    add_charge(
        session,
        customer_id=view.invoice.customer_id,
        invoice_id=view.invoice.id,
        expected_version=view.invoice.version,
        amount=amount,
        description=description,
        reason=reason,
        actor=AGENT,
        settings=billing.settings,
        now=now,
    )


def _credit_a_fifth(session: Session, billing: Billing, view: InvoiceView, *, now: datetime) -> None:
    largest = max(view.lines, key=lambda line: line.amount)
    credit_line(
        session,
        customer_id=view.invoice.customer_id,
        invoice_id=view.invoice.id,
        expected_version=view.invoice.version,
        line_id=largest.id,
        amount=round(largest.amount / 5, invoice_exponent(view.invoice.currency)),
        reason="Machines in one region were down for an afternoon.",
        actor=AGENT,
        settings=billing.settings,
        now=now,
    )


def _smallest_line(view: InvoiceView) -> Line:
    return min((line for line in view.lines if line.amount > 0), key=lambda line: line.amount)
