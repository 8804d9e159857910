"""Finalization: a draft becomes a legal invoice with a number, in one database transaction, or is carried forward."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.carrying import carry_forward
from invoicing.collection_orders import order_of
from invoicing.credit.lots import write_applied
from invoicing.drafts import awaiting_approval, lines_of, lock_draft
from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.provider import Provider
from invoicing.settling import Settlement, settle
from invoicing.tables import Customer, Invoice, Line
from invoicing.tax.engine import TAX_TABLE, TaxEngine
from invoicing.tax.invoices import write_taxes
from ledger import accounts
from ledger.money import plain
from ledger.tables import UNBILLED_TOTALS

MAX_NUMBER_LENGTH = 26  # characters. Source: https://docs.stripe.com/api/invoices/object#invoice_object-number


class DraftHeld(InvoicingError):
    """The draft is held for a person. Release it first."""

    code = "draft_held"


class ApprovalPending(InvoicingError):
    """An adjustment above the limit awaits a second person. Approve or undo it first."""

    code = "approval_pending"


class DraftDoesNotMatchLedger(InvoicingError):
    """The draft's lines differ from the ledger. Nothing was finalized; run `billing ledger check`."""

    code = "draft_does_not_match_ledger"


def finalize(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    provider: Provider,
    actor: str,
    now: datetime,
    expected_version: int | None = None,
    taxes: TaxEngine = TAX_TABLE,
) -> Invoice:
    """Make the draft a legal invoice, or carry it forward; its state says which. The caller commits.

    Everything happens in the caller's one transaction: rounding, tax, credits and the receivable are posted, the cents
    and the taxes are shared out over the lines, the number is given, the order to collect is written.

    Raises:
        DraftHeld, ApprovalPending, DraftDoesNotMatchLedger, and what `lock_draft` and `settle` raise.
    """
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    if invoice.held_at is not None:
        raise DraftHeld(f"The draft is held by {invoice.held_by}: {invoice.hold_reason} Release it first.")
    if awaiting_approval(session, customer_id=customer_id, invoice_id=invoice_id):
        raise ApprovalPending("An adjustment above the limit awaits a second person. Approve or undo it first.")
    lines = lines_of(session, customer_id=customer_id, invoice_id=invoice_id)
    _compare_with_ledger(session, invoice, lines)
    settlement = settle(session, invoice, lines, provider=provider, taxes=taxes)
    invoice.exact_total = settlement.exact
    invoice.finalized_at = now
    if settlement.outcome in ("empty", "carried_forward"):
        target = None
        if settlement.outcome == "carried_forward":
            target = carry_forward(session, invoice, actor=actor, now=now)
        record(
            session,
            invoice,
            action=settlement.outcome.replace("_", " "),
            actor=actor,
            now=now,
            to_state=settlement.outcome,
            details={"amount": plain(settlement.exact), **({"to_period": target.start.isoformat()} if target else {})},
        )
        return invoice
    _post_settlement(session, invoice, settlement, actor=actor, now=now)
    for line, share in zip(lines, settlement.shares, strict=True):
        line.rounded = share
    session.flush()  # lines are frozen from the moment on which the invoice is final
    write_taxes(session, invoice, lines, settlement)
    provider = provider.of(session, customer_id=customer_id)
    invoice.provider = provider.name
    customer = give_number(session, invoice)
    invoice.tax, invoice.tax_included = settlement.assessment.on_top, settlement.assessment.included
    invoice.total, invoice.credits_applied, invoice.amount_due = settlement.total, settlement.applied, settlement.due
    record(
        session,
        invoice,
        action="finalized",
        actor=actor,
        now=now,
        to_state="final",
        details={
            "number": invoice.number,
            "total": plain(settlement.total),
            **({"tax": plain(invoice.tax + invoice.tax_included)} if settlement.assessment.taxes else {}),
            "due": plain(settlement.due),
        },
    )
    if settlement.outcome == "paid":
        invoice.paid_at = now
        record(session, invoice, action="covered by credits", actor=actor, now=now, to_state="paid")
    else:
        provider.submit(session, order_of(invoice, lines, settlement, customer), now=now)
    return invoice


def _compare_with_ledger(session: Session, invoice: Invoice, lines: list[Line]) -> None:
    """Line by line, to the last digit: what the draft shows is what the books hold."""
    view = UNBILLED_TOTALS.c
    key = (view.contra_account, view.item, view.price_id, view.usage_period_start)
    in_ledger = {
        row[:4]: row[4]
        for row in session.execute(
            select(*key, func.sum(view.amount))
            .where(
                view.customer_id == invoice.customer_id,
                view.period_start == invoice.period_start,
                view.document_id.is_(None),
            )
            .group_by(*key)
        )
    }
    on_draft = {
        (line.contra_account, line.item, line.price_id, line.usage_period_start): line.amount
        for line in lines
        if line.adjustment_id is None
    }
    adjusted_in_ledger = session.scalar(
        select(func.coalesce(func.sum(view.amount), 0)).where(
            view.customer_id == invoice.customer_id, view.document_id == invoice.id
        )
    )
    adjusted_on_draft = sum((line.amount for line in lines if line.adjustment_id is not None), Decimal(0))
    if on_draft != in_ledger or adjusted_on_draft != adjusted_in_ledger:
        raise DraftDoesNotMatchLedger(
            f"The lines of draft {invoice.id} add up to {plain(sum(on_draft.values(), adjusted_on_draft))}, the ledger "
            f"holds {plain(sum(in_ledger.values(), Decimal(adjusted_in_ledger or 0)))}. Nothing was finalized; run "
            "`billing ledger check`."
        )


def _post_settlement(session: Session, invoice: Invoice, settlement: Settlement, *, actor: str, now: datetime) -> None:
    booking = Booking(
        invoice.customer_id,
        source="invoicing:finalize",
        event_id=str(invoice.id),
        kind="finalization",
        at=now,
        actor=actor,
    )

    def move(leg: str, amount: Decimal, *, debit: str, credit: str, kind: str, reason: str | None = None) -> None:
        booking.move(leg, amount, debit=debit, credit=credit, kind=kind, reason=reason, document_id=invoice.id)

    rounding = settlement.rounded - settlement.exact
    move("rounding", rounding, debit=accounts.UNBILLED, credit=accounts.ROUNDING, kind="rounding")
    move("net", settlement.rounded, debit=accounts.RECEIVABLE, credit=accounts.UNBILLED, kind="finalization")
    for position, tax in enumerate(settlement.assessment.taxes, start=1):
        # Tax inside a price was earned with it, so it is taken out of what was earned.
        taxed = accounts.TAX_INCLUDED if tax.inclusive else accounts.RECEIVABLE
        move(f"tax:{position}", tax.amount, debit=taxed, credit=accounts.TAX, kind="tax", reason=tax.title)
    for lot in settlement.allotments:
        move(lot.leg, lot.amount, debit=lot.account, credit=accounts.RECEIVABLE, kind="credit", reason=lot.title)
    booking.post(session, now=now)
    write_applied(session, invoice, settlement.allotments, transaction=booking.transaction_id, actor=actor, now=now)


def give_number(session: Session, invoice: Invoice) -> Customer:
    """Give the invoice the customer's next number: gap-free, because it is given in the transaction that uses it."""
    customer = session.get_one(Customer, invoice.customer_id, with_for_update=True, populate_existing=True)
    customer.last_invoice_number += 1
    number = f"{customer.invoice_prefix}-{customer.last_invoice_number:04d}"
    if len(number) > MAX_NUMBER_LENGTH:
        raise AssertionError(f"invoice number {number} is longer than {MAX_NUMBER_LENGTH} characters")
    invoice.number, invoice.number_seq = number, customer.last_invoice_number
    session.flush()
    return customer
