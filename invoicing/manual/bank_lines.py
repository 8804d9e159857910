"""Lines of our bank statement: what arrived for which invoice. A line that names one invoice settles it by itself; all
others wait for a person, and nothing is guessed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from uuid import UUID, uuid5

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.manual.bank_files import BadLine, StatementLine
from invoicing.manual.tables import BankLine
from invoicing.movements.requests import request_movement
from invoicing.payments import record_payment
from invoicing.provider import Provider
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger import accounts
from ledger.books import NAMESPACE
from ledger.errors import LedgerError

MANUAL = "manual"
_NUMBER = re.compile(r"(?<![0-9A-Z])([0-9A-Z]{6,12})[ -]?([0-9]{4,})(?![0-9A-Z])")


class BankLineNotFound(InvoicingError):
    """There is no such line. Reload the list."""

    code = "unknown_bank_line"


class BankLineDecided(InvoicingError):
    """Somebody decided about this line already. Reload the list."""

    code = "bank_line_decided"


class BankLineDoesNotFit(InvoicingError):
    """This line cannot pay that invoice; the message says why, and what to do."""

    code = "bank_line_does_not_fit"


@dataclass(slots=True)
class BankImport:
    """How far an import is, in lines: read, new, there already, refused; of the new ones settled, and left open."""

    lines: int = 0
    new: int = 0
    known: int = 0
    refused: int = 0
    settled: int = 0
    open: int = 0


def import_lines(
    engine: Engine,
    lines: Iterable[StatementLine | BadLine],
    *,
    account: str,
    provider: Provider,
    settings: Settings,
    actor: str,
    now: datetime,
    reject: Callable[[BadLine], None],
    progress: Callable[[BankImport], None] | None = None,
) -> BankImport:
    """Take the statement's lines in, each in a transaction of its own. Running it again adds nothing.

    `account` names our bank account, 1 to 100 characters: a bank's ids are unique within it.
    """
    summary = BankImport()
    for line in lines:
        summary.lines += 1
        if isinstance(line, BadLine):
            summary.refused += 1
            reject(line)
        else:
            with Session(engine) as session, session.begin():
                taken = take_line(
                    session, line, account=account, provider=provider, settings=settings, actor=actor, now=now
                )
                if taken is None:
                    summary.known += 1
                else:
                    summary.new += 1
                    summary.settled += taken.state == "settled"
                    summary.open += taken.state == "open"
        if progress is not None:
            progress(summary)
    return summary


def take_line(
    session: Session,
    line: StatementLine,
    *,
    account: str,
    provider: Provider,
    settings: Settings,
    actor: str,
    now: datetime,
) -> BankLine | None:
    """Store one line, and settle what it names; None if it was stored before. The caller commits."""
    inserted = session.scalars(
        insert(BankLine)
        .values(
            id=uuid5(NAMESPACE, f"bank line\x1f{account}\x1f{line.id}"),
            account=account,
            external_id=line.id,
            booked_on=line.booked_on,
            amount=line.amount,
            currency=line.currency,
            payer=line.payer,
            reference=line.reference,
            imported_at=now,
            imported_by=actor,
            state="open",
            note=None,
        )
        .on_conflict_do_nothing()
        .returning(BankLine)
    ).one_or_none()
    if inserted is None:
        return None
    if line.amount < 0:
        inserted.note = "Money that went out."
        return inserted
    named = invoices_named(session, line.reference)
    if len(named) != 1:
        inserted.note = (
            "The reference names no invoice of ours." if not named else "The reference names more than one invoice."
        )
        return inserted
    try:
        with session.begin_nested():
            _settle(session, inserted, named[0], provider=provider, settings=settings, actor=actor, now=now)
    except (InvoicingError, LedgerError) as refusal:
        inserted.note = str(refusal)[:2000]
    session.flush()
    return inserted


def invoices_named(session: Session, reference: str) -> list[Invoice]:
    """The numbered invoices that a reference names, whatever stands around the numbers."""
    text = reference.upper().replace("\u2013", "-").replace("\u2014", "-")
    numbers = {f"{prefix}-{number}" for prefix, number in _NUMBER.findall(text)}
    if not numbers:
        return []
    return list(session.scalars(select(Invoice).where(Invoice.number.in_(sorted(numbers))).order_by(Invoice.number)))


def settle_line(
    session: Session,
    *,
    line_id: UUID,
    invoice_number: str,
    provider: Provider,
    settings: Settings,
    actor: str,
    reason: str,
    now: datetime,
) -> BankLine:
    """Say that this line paid that invoice: it becomes a payment. What is more than was due is the customer's,
    unapplied. Whoever collects the invoice elsewhere is told that it is paid. The caller commits.

    Raises:
        BankLineNotFound, BankLineDecided, BankLineDoesNotFit, ReasonMissing, and what `record_payment` and
            `request_movement` raise.
    """
    reason = checked_reason(reason)
    line = _undecided(session, line_id)
    invoice = session.scalars(select(Invoice).where(Invoice.number == invoice_number.strip().upper())).one_or_none()
    if invoice is None:
        raise BankLineDoesNotFit(f"There is no invoice {invoice_number.strip()[:60]!r}. Check the number.")
    line.note = reason
    _settle(session, line, invoice, provider=provider, settings=settings, actor=actor, now=now)
    return line


def set_aside(session: Session, *, line_id: UUID, actor: str, reason: str, now: datetime) -> BankLine:
    """Say that this line is nothing of ours, or was booked elsewhere. The caller commits.

    Raises:
        BankLineNotFound, BankLineDecided, ReasonMissing.
    """
    reason = checked_reason(reason)
    line = _undecided(session, line_id)
    line.state, line.decided_at, line.decided_by, line.note = "set_aside", now, actor, reason
    session.flush()
    return line


def bank_lines(session: Session, *, state: str | None, limit: int) -> list[BankLine]:
    """Lines of our statements: open ones the oldest first, else the newest first."""
    query = select(BankLine).limit(limit)
    if state == "open":
        return list(session.scalars(query.where(BankLine.state == "open").order_by(BankLine.booked_on, BankLine.id)))
    if state is not None:
        query = query.where(BankLine.state == state)
    return list(session.scalars(query.order_by(BankLine.imported_at.desc(), BankLine.id)))


def count_open(session: Session) -> int:
    """How many lines wait for a person."""
    return session.scalar(select(func.count()).select_from(BankLine).where(BankLine.state == "open")) or 0


def _undecided(session: Session, line_id: UUID) -> BankLine:
    line = session.get(BankLine, line_id, with_for_update=True, populate_existing=True)
    if line is None:
        raise BankLineNotFound("There is no such line. Reload the list.")
    if line.state != "open":
        raise BankLineDecided(f"{line.decided_by} decided about this line already: {line.note or line.state}")
    return line


def _settle(
    session: Session,
    line: BankLine,
    invoice: Invoice,
    *,
    provider: Provider,
    settings: Settings,
    actor: str,
    now: datetime,
) -> None:
    if line.amount < 0:
        raise BankLineDoesNotFit("This money went out: it pays no invoice. Set the line aside.")
    if line.currency != invoice.currency:
        raise BankLineDoesNotFit(
            f"The line is in {line.currency}, invoice {invoice.number} in {invoice.currency}. Set the line aside, and "
            "record what arrived on the invoice's page."
        )
    # A bank books by the day: its beginning, in UTC, and never later than now.
    received_at = min(now, datetime.combine(line.booked_on, time(), tzinfo=UTC))
    if invoice.provider == MANUAL:
        record_payment(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            provider=MANUAL,
            external_id=f"bank:{line.id}",
            amount=line.amount,
            received_at=received_at,
            actor=actor,
            now=now,
            account=accounts.BANK,
        )
    else:
        # Somebody else collects it, and must be told to stop.
        request_movement(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            movement_id=line.id,
            kind="outside_payment",
            amount=line.amount,
            options={"received_at": received_at.isoformat(), "reference": f"bank:{line.id}"},
            reason=f"A transfer of {line.booked_on} to {line.account}: {line.reference}"[:2000],
            actor=actor,
            provider=provider,
            settings=settings,
            now=now,
        )
    line.state, line.customer_id, line.invoice_id = "settled", invoice.customer_id, invoice.id
    line.decided_at, line.decided_by = now, actor
    session.flush()
