"""Invoices as staff see them, and what can be done to a draft as a whole: look at it, hold it, release it."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.tables import Adjustment, Customer, HistoryRow, Invoice, Line, Payment, PaymentFailure, PaymentUnderWay
from invoicing.tax.invoices import taxes_of
from invoicing.tax.tables import InvoiceTax
from ledger.books import lock_books
from ledger.money import invoice_exponent, round_half_even


class InvoiceNotFound(InvoicingError):
    """There is no such invoice. Check the link or the number."""

    code = "unknown_invoice"


class NotADraft(InvoicingError):
    """The invoice is final: nothing on it can be changed any more. Correct it on the next invoice."""

    code = "not_a_draft"


class DraftChanged(InvoicingError):
    """The draft changed after you opened it. Check the new total, then try again."""

    code = "draft_changed"

    def __init__(self, *, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"The draft changed after you opened it (you saw version {expected}, it is now {actual}). "
            "Check the new total, then try again."
        )


class ReasonMissing(InvoicingError):
    """Say why, in 1 to 2,000 characters: whoever reads the history will want to know."""

    code = "reason_missing"


class AlreadyHeld(InvoicingError):
    """The draft is held already. Release it first, or leave it as it is."""

    code = "already_held"


class NotHeld(InvoicingError):
    """The draft is not held, so there is nothing to release."""

    code = "not_held"


@dataclass(frozen=True, slots=True)
class InvoiceView:
    """Everything about one invoice. Amounts in major units: `exact_total` before rounding, `rounded_total` after."""

    invoice: Invoice
    lines: list[Line]
    adjustments: list[Adjustment]
    history: list[HistoryRow]
    payments: list[Payment]
    failures: list[PaymentFailure]
    under_way: list[PaymentUnderWay]
    """Debits whose banks have not answered yet, the oldest first."""
    exact_total: Decimal
    rounded_total: Decimal
    needs_approval: bool
    taxes: list[InvoiceTax]
    """What it was taxed with when it became final, in the order in which it is shown."""


@dataclass(frozen=True, slots=True)
class DraftRow:
    """One draft in a list."""

    invoice: Invoice
    customer_name: str
    exact_total: Decimal
    needs_approval: bool


def checked_reason(reason: str) -> str:
    """The reason without surrounding white space.

    Raises:
        ReasonMissing: it is blank or longer than 2,000 characters.
    """
    reason = reason.strip()
    if not 0 < len(reason) <= 2000:
        raise ReasonMissing("Say why, in 1 to 2,000 characters: whoever reads the history will want to know.")
    return reason


def lock_draft(
    session: Session, *, customer_id: UUID, invoice_id: UUID, expected_version: int | None = None
) -> Invoice:
    """The draft, its books and its row locked until the transaction ends.

    Raises:
        InvoiceNotFound: there is no such invoice.
        NotADraft: it is final, carried forward or void.
        DraftChanged: it is not the version that the caller saw.
    """
    lock_books(session, [customer_id])
    invoice = session.get(Invoice, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    if invoice.state != "draft":
        raise NotADraft(
            f"Invoice {invoice.number or invoice.id} is {invoice.state.replace('_', ' ')}: nothing on it can be "
            "changed any more. Correct it on the next invoice."
        )
    if expected_version is not None and invoice.version != expected_version:
        raise DraftChanged(expected=expected_version, actual=invoice.version)
    return invoice


def _awaits_approval() -> ColumnElement[bool]:
    return (
        exists()
        .where(
            Adjustment.customer_id == Invoice.customer_id,
            Adjustment.invoice_id == Invoice.id,
            Adjustment.needs_approval,
            Adjustment.approved_at.is_(None),
            Adjustment.undone_at.is_(None),
        )
        .correlate(Invoice)
    )


def awaiting_approval(session: Session, *, customer_id: UUID, invoice_id: UUID) -> bool:
    """Whether an adjustment of this invoice still needs a second person."""
    return bool(
        session.scalar(
            select(_awaits_approval())
            .select_from(Invoice)
            .where(Invoice.customer_id == customer_id, Invoice.id == invoice_id)
        )
    )


def lines_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[Line]:
    """The invoice's lines in the order in which they are shown."""
    return list(
        session.scalars(
            select(Line).where(Line.customer_id == customer_id, Line.invoice_id == invoice_id).order_by(Line.position)
        )
    )


def get_invoice(session: Session, *, customer_id: UUID, invoice_id: UUID) -> InvoiceView:
    """Everything about one invoice.

    Raises:
        InvoiceNotFound: this customer has no such invoice.
    """
    invoice = session.get(Invoice, (customer_id, invoice_id))
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    lines = lines_of(session, customer_id=customer_id, invoice_id=invoice_id)
    adjustments = list(
        session.scalars(
            select(Adjustment)
            .where(Adjustment.customer_id == customer_id, Adjustment.invoice_id == invoice_id)
            .order_by(Adjustment.created_at, Adjustment.id)
        )
    )
    history = list(
        session.scalars(
            select(HistoryRow)
            .where(HistoryRow.customer_id == customer_id, HistoryRow.invoice_id == invoice_id)
            .order_by(HistoryRow.id)
        )
    )
    payments = list(
        session.scalars(
            select(Payment)
            .where(Payment.customer_id == customer_id, Payment.invoice_id == invoice_id)
            .order_by(Payment.received_at)
        )
    )
    failures = list(
        session.scalars(
            select(PaymentFailure)
            .where(PaymentFailure.customer_id == customer_id, PaymentFailure.invoice_id == invoice_id)
            .order_by(PaymentFailure.attempt, PaymentFailure.failed_at)
        )
    )
    under_way = list(
        session.scalars(
            select(PaymentUnderWay)
            .where(
                PaymentUnderWay.customer_id == customer_id,
                PaymentUnderWay.invoice_id == invoice_id,
                PaymentUnderWay.state == "under_way",
            )
            .order_by(PaymentUnderWay.began_at, PaymentUnderWay.external_id)
        )
    )
    exact = sum((line.amount for line in lines), Decimal(0))
    return InvoiceView(
        invoice=invoice,
        lines=lines,
        adjustments=adjustments,
        history=history,
        payments=payments,
        failures=failures,
        under_way=under_way,
        exact_total=exact,
        rounded_total=round_half_even(exact, invoice_exponent(invoice.currency)),
        needs_approval=any(a.needs_approval and a.approved_at is None and a.undone_at is None for a in adjustments),
        taxes=taxes_of(session, customer_id=customer_id, invoice_id=invoice_id) if invoice.number else [],
    )


def list_invoices(session: Session, *, customer_id: UUID, limit: int = 100) -> list[Invoice]:
    """The customer's invoices and drafts, the newest period first."""
    return list(
        session.scalars(
            select(Invoice)
            .where(Invoice.customer_id == customer_id)
            .order_by(Invoice.period_start.desc(), Invoice.generation.desc())
            .limit(limit)
        )
    )


def list_drafts(session: Session, *, held: bool | None = None, limit: int = 200) -> list[DraftRow]:
    """Open drafts, those due first; `held` narrows to held ones (True) or to the others (False)."""
    exact = (
        select(func.coalesce(func.sum(Line.amount), 0))
        .where(Line.customer_id == Invoice.customer_id, Line.invoice_id == Invoice.id)
        .correlate(Invoice)
        .scalar_subquery()
    )
    query = (
        select(Invoice, Customer.name, exact, _awaits_approval())
        .join(Customer, Customer.customer_id == Invoice.customer_id)
        .where(Invoice.state == "draft")
        .order_by(Invoice.finalize_after, Invoice.customer_id)
        .limit(limit)
    )
    if held is not None:
        query = query.where(Invoice.held_at.is_not(None) if held else Invoice.held_at.is_(None))
    return [DraftRow(*row) for row in session.execute(query)]


def hold(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    reason: str,
    actor: str,
    now: datetime,
) -> Invoice:
    """Keep the draft from being finalized until somebody releases it. The caller commits.

    Raises:
        AlreadyHeld, ReasonMissing, and what `lock_draft` raises.
    """
    reason = checked_reason(reason)
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    if invoice.held_at is not None:
        raise AlreadyHeld(f"The draft is held already, by {invoice.held_by}: {invoice.hold_reason}")
    invoice.held_at, invoice.held_by, invoice.hold_reason = now, actor, reason
    record(session, invoice, action="held", actor=actor, now=now, reason=reason)
    return invoice


def release(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    reason: str,
    actor: str,
    now: datetime,
) -> Invoice:
    """Let the draft be finalized again. The caller commits.

    Raises:
        NotHeld, ReasonMissing, and what `lock_draft` raises.
    """
    reason = checked_reason(reason)
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    if invoice.held_at is None:
        raise NotHeld("The draft is not held, so there is nothing to release.")
    details = {"held_by": invoice.held_by, "hold_reason": invoice.hold_reason}
    invoice.held_at = invoice.held_by = invoice.hold_reason = None
    record(session, invoice, action="released", actor=actor, now=now, reason=reason, details=details)
    return invoice
