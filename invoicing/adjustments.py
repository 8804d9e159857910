"""Adjustments: corrections of a draft by staff. Each is an entry plus a line, with author and reason; nobody edits a
number in place, and each can be undone exactly."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.drafts import checked_reason, lock_draft
from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.settings import Settings
from invoicing.tables import Adjustment, Invoice, Line
from ledger import accounts
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.money import invoice_exponent, plain
from ledger.posting import post
from ledger.tables import Entry

MAX_AMOUNT = Decimal(10) ** 9  # exclusive, major units; more than that is a slip of the keyboard


class BadAmount(InvoicingError):
    """The amount must be above 0, below 1,000,000,000, and have no more decimals than the currency."""

    code = "bad_amount"


class DescriptionMissing(InvoicingError):
    """Describe the charge in 1 to 500 characters: the customer reads it on the invoice."""

    code = "description_missing"


class LineNotFound(InvoicingError):
    """The draft has no such line (any more). Reload the draft."""

    code = "unknown_line"


class LineNotAdjustable(InvoicingError):
    """Only a line with an amount above zero that is no adjustment itself can be credited or waived."""

    code = "line_not_adjustable"


class CreditTooLarge(InvoicingError):
    """A line can be credited with at most what is left of it."""

    code = "credit_too_large"


class AdjustmentNotFound(InvoicingError):
    """The draft has no such adjustment. Reload the draft."""

    code = "unknown_adjustment"


class AdjustmentUndone(InvoicingError):
    """This adjustment was undone already."""

    code = "adjustment_undone"


class ApprovalNotNeeded(InvoicingError):
    """This adjustment needs no approval, or has it already."""

    code = "approval_not_needed"


class SecondPersonNeeded(InvoicingError):
    """An adjustment is approved by somebody other than its author."""

    code = "second_person_needed"


def add_charge(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    amount: Decimal,
    description: str,
    reason: str,
    actor: str,
    settings: Settings,
    now: datetime,
) -> Adjustment:
    """Add a charge to the draft: `amount` above 0, in major units, with no more decimals than the currency has.

    The caller commits.

    Raises:
        BadAmount, DescriptionMissing, ReasonMissing, and what `lock_draft` raises.
    """
    reason = checked_reason(reason)
    description = description.strip()
    if not 0 < len(description) <= 500 or not description.isprintable():
        raise DescriptionMissing("Describe the charge in 1 to 500 characters: the customer reads it on the invoice.")
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    _check_amount(amount, invoice.currency)
    return _adjust(
        session,
        invoice,
        kind="charge",
        line=None,
        amount=amount,
        description=description,
        reason=reason,
        actor=actor,
        settings=settings,
        now=now,
    )


def credit_line(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    line_id: UUID,
    amount: Decimal,
    reason: str,
    actor: str,
    settings: Settings,
    now: datetime,
) -> Adjustment:
    """Take `amount` (above 0, major units) off one line, at most what is left of it. The caller commits.

    Raises:
        BadAmount, CreditTooLarge, LineNotFound, LineNotAdjustable, ReasonMissing, and what `lock_draft` raises.
    """
    reason = checked_reason(reason)
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    _check_amount(amount, invoice.currency)
    line, left = _adjustable(session, invoice, line_id)
    if amount > left:
        raise CreditTooLarge(
            f"{plain(left)} {invoice.currency} are left of this line; {plain(amount)} cannot be credited. "
            "Waive the line to take all of it off."
        )
    return _adjust(
        session,
        invoice,
        kind="credit",
        line=line,
        amount=-amount,
        description=f"Credit: {line.description}"[:500],
        reason=reason,
        actor=actor,
        settings=settings,
        now=now,
    )


def waive_line(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    line_id: UUID,
    reason: str,
    actor: str,
    settings: Settings,
    now: datetime,
) -> Adjustment:
    """Take everything that is left of one line off, to the last digit. The caller commits.

    Raises:
        LineNotFound, LineNotAdjustable, ReasonMissing, and what `lock_draft` raises.
    """
    reason = checked_reason(reason)
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    line, left = _adjustable(session, invoice, line_id)
    return _adjust(
        session,
        invoice,
        kind="waive",
        line=line,
        amount=-left,
        description=f"Waived: {line.description}"[:500],
        reason=reason,
        actor=actor,
        settings=settings,
        now=now,
    )


def undo(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    adjustment_id: UUID,
    reason: str,
    actor: str,
    now: datetime,
) -> Adjustment:
    """Undo one adjustment exactly: its entry is reversed and its line disappears; the record of both stays.

    The caller commits.

    Raises:
        AdjustmentNotFound, AdjustmentUndone, ReasonMissing, and what `lock_draft` raises.
    """
    reason = checked_reason(reason)
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    adjustment = _standing(session, invoice, adjustment_id)
    original = session.get_one(Entry, (customer_id, adjustment.entry_id))
    transaction = transaction_id("invoicing:undo", str(adjustment.id))
    post(
        session,
        [
            NewEntry(
                customer_id=customer_id,
                id=entry_id(transaction, "reversal"),
                transaction_id=transaction,
                debit_account=original.credit_account,
                credit_account=original.debit_account,
                amount=original.amount,
                effective_at=now,
                kind="adjustment",
                actor=actor,
                reason=reason,
                digest=digest({"reverses": original.id}),
                document_id=invoice.id,
                item=original.item,
                price_id=original.price_id,
                quantity=original.quantity,
                reverses_id=original.id,
            )
        ],
        now=now,
    )
    adjustment.undone_by, adjustment.undone_at, adjustment.undo_reason = actor, now, reason
    for line in session.scalars(
        select(Line).where(
            Line.customer_id == customer_id, Line.invoice_id == invoice_id, Line.adjustment_id == adjustment_id
        )
    ):
        session.delete(line)
    record(
        session,
        invoice,
        action="adjustment undone",
        actor=actor,
        now=now,
        reason=reason,
        details={"adjustment_id": str(adjustment.id), "amount": plain(adjustment.amount)},
    )
    return adjustment


def approve(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    expected_version: int,
    adjustment_id: UUID,
    actor: str,
    now: datetime,
) -> Adjustment:
    """Agree, as a second person, to an adjustment above the limit. The caller commits.

    Raises:
        AdjustmentNotFound, AdjustmentUndone, ApprovalNotNeeded, SecondPersonNeeded, and what `lock_draft` raises.
    """
    invoice = lock_draft(session, customer_id=customer_id, invoice_id=invoice_id, expected_version=expected_version)
    adjustment = _standing(session, invoice, adjustment_id)
    if not adjustment.needs_approval or adjustment.approved_at is not None:
        raise ApprovalNotNeeded("This adjustment needs no approval, or has it already.")
    if adjustment.actor == actor:
        raise SecondPersonNeeded("You made this adjustment: ask somebody else to approve it.")
    adjustment.approved_by, adjustment.approved_at = actor, now
    record(
        session,
        invoice,
        action="adjustment approved",
        actor=actor,
        now=now,
        details={"adjustment_id": str(adjustment.id), "amount": plain(adjustment.amount)},
    )
    return adjustment


def _check_amount(amount: Decimal, currency: str) -> None:
    exponent = invoice_exponent(currency)
    if not amount.is_finite() or not 0 < amount < MAX_AMOUNT or amount != round(amount, exponent):
        raise BadAmount(
            f"Give an amount above 0 and below {MAX_AMOUNT:,} with at most {exponent} decimals in {currency}."
        )


def _adjustable(session: Session, invoice: Invoice, line_id: UUID) -> tuple[Line, Decimal]:
    """The line, and what its credits have left of it."""
    line = session.get(Line, (invoice.customer_id, invoice.id, line_id))
    if line is None:
        raise LineNotFound("The draft has no such line (any more). Reload the draft.")
    taken = session.scalar(
        select(func.coalesce(func.sum(Adjustment.amount), 0)).where(
            Adjustment.customer_id == invoice.customer_id,
            Adjustment.invoice_id == invoice.id,
            Adjustment.line_id == line_id,
            Adjustment.undone_at.is_(None),
        )
    )
    left = line.amount + Decimal(taken or 0)
    if line.adjustment_id is not None or left <= 0:
        raise LineNotAdjustable(
            "Nothing is left of this line to take off."
            if line.adjustment_id is None
            else "This line is an adjustment itself: undo it instead."
        )
    return line, left


def _standing(session: Session, invoice: Invoice, adjustment_id: UUID) -> Adjustment:
    adjustment = session.get(Adjustment, (invoice.customer_id, adjustment_id), populate_existing=True)
    if adjustment is None or adjustment.invoice_id != invoice.id:
        raise AdjustmentNotFound("The draft has no such adjustment. Reload the draft.")
    if adjustment.undone_at is not None:
        raise AdjustmentUndone(f"{adjustment.undone_by} undid this adjustment already.")
    return adjustment


def _adjust(
    session: Session,
    invoice: Invoice,
    *,
    kind: str,
    line: Line | None,
    amount: Decimal,
    description: str,
    reason: str,
    actor: str,
    settings: Settings,
    now: datetime,
) -> Adjustment:
    """Post the entry, write the adjustment and its line, and note it in the history. `amount` is signed."""
    adjustment_id = uuid4()
    transaction = transaction_id("invoicing:adjustment", str(adjustment_id))
    up = amount > 0
    entry = NewEntry(
        customer_id=invoice.customer_id,
        id=entry_id(transaction, "adjustment"),
        transaction_id=transaction,
        debit_account=accounts.UNBILLED if up else accounts.ADJUSTMENTS,
        credit_account=accounts.ADJUSTMENTS if up else accounts.UNBILLED,
        amount=abs(amount),
        effective_at=now,
        kind="adjustment",
        actor=actor,
        reason=reason,
        digest=digest({"adjustment": adjustment_id, "amount": amount}),
        document_id=invoice.id,
        item=line.item if line else None,
        # Carried forward, a correction of what includes tax still says so by its price.
        price_id=line.price_id if line and line.tax_inclusive else None,
    )
    post(session, [entry], now=now)
    adjustment = Adjustment(
        customer_id=invoice.customer_id,
        id=adjustment_id,
        invoice_id=invoice.id,
        kind=kind,
        line_id=line.id if line else None,
        amount=amount,
        description=description,
        reason=reason,
        actor=actor,
        created_at=now,
        entry_id=entry.id,
        needs_approval=abs(amount) > settings.approval_limit,
    )
    session.add(adjustment)
    session.flush()
    position = session.scalar(
        select(func.coalesce(func.max(Line.position), 0) + 1).where(
            Line.customer_id == invoice.customer_id, Line.invoice_id == invoice.id
        )
    )
    session.add(
        Line(
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            position=position,
            contra_account=accounts.ADJUSTMENTS,
            item=line.item if line else None,
            usage_period_start=line.usage_period_start if line else invoice.period_start,
            description=description,
            amount=amount,
            adjustment_id=adjustment_id,
            tax_inclusive=bool(line and line.tax_inclusive),
        )
    )
    record(
        session,
        invoice,
        action={"charge": "charge added", "credit": "line credited", "waive": "line waived"}[kind],
        actor=actor,
        now=now,
        reason=reason,
        details={"adjustment_id": str(adjustment_id), "amount": plain(amount), "description": description},
    )
    return adjustment
