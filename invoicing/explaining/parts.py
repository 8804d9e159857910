"""Parts: what else of a rating period was counted with a charge, and which line bills it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.orm import Session

from invoicing.explaining.charges import ZERO, Charge
from invoicing.rating.periods import rating_start_of, rating_starts_of
from invoicing.tables import Invoice
from ledger import accounts
from ledger.tables import UNBILLED_TOTALS, Entry, PeriodRow


@dataclass(frozen=True, slots=True)
class Part:
    """What one line bills of a rating period; `invoice` is None while its period is not billed yet."""

    period_start: datetime
    usage_period_start: datetime
    item: str | None
    price_id: UUID | None
    quantity: Decimal
    amount: Decimal
    invoice: Invoice | None = None


class Parts(Protocol):
    """What a charge's rating period had come to by then, each line by itself."""

    start: datetime
    """From when on the rating period counts."""

    def of(self, contra_account: str, *, item: str | None = None, price_id: UUID | None = None) -> list[Part]:
        """The parts against this account; those of one item, or at one price, only."""
        ...


class PartsBilled:
    """By then: billed in the charge's period or before. Read from the running totals, whatever the number of entries.

    A closed period never gets another charge, and what comes late goes to the first that is open. So what the rating
    period had come to when this period was over is what it and those before it bill, unless a period was opened after a
    later one had taken something late.
    """

    def __init__(self, session: Session, charge: Charge) -> None:
        self._session, self._charge = session, charge
        self.start, self._places = _rating_period(session, charge, until=charge.period_start)

    def of(self, contra_account: str, *, item: str | None = None, price_id: UUID | None = None) -> list[Part]:
        view = UNBILLED_TOTALS.c
        key = (view.period_start, view.usage_period_start, view.item, view.price_id)
        query = (
            select(*key, func.sum(view.quantity), func.sum(view.amount))
            .where(
                view.customer_id == self._charge.customer_id,
                view.document_id.is_(None),
                view.contra_account == contra_account,
                view.period_start <= self._charge.period_start,
                view.usage_period_start.in_(self._places),
            )
            .group_by(*key)
            .order_by(view.period_start, view.usage_period_start)
        )
        return _read(self._session, query, (view.item, item), (view.price_id, price_id))


class PartsPosted:
    """By then: posted no later than the charge's last entry. Always right, and as much work as there are entries."""

    def __init__(self, session: Session, charge: Charge) -> None:
        self._session, self._charge = session, charge
        self.start, self._places = _rating_period(session, charge, until=None)
        self._last = session.scalar(select(func.max(Entry.seq)).where(charge.entries()))

    def of(self, contra_account: str, *, item: str | None = None, price_id: UUID | None = None) -> list[Part]:
        is_debit = Entry.debit_account == accounts.UNBILLED
        key = (Entry.period_start, Entry.usage_period_start, Entry.item, Entry.price_id)
        query = (
            select(
                *key,
                func.sum(case((is_debit, Entry.quantity), else_=-Entry.quantity)),
                func.sum(case((is_debit, Entry.amount), else_=-Entry.amount)),
            )
            .where(
                Entry.customer_id == self._charge.customer_id,
                Entry.document_id.is_(None),
                Entry.usage_period_start.in_(self._places),
                Entry.seq <= self._last,
                or_(
                    is_debit & (Entry.credit_account == contra_account),
                    (Entry.credit_account == accounts.UNBILLED) & (Entry.debit_account == contra_account),
                ),
            )
            .group_by(*key)
            .order_by(Entry.period_start, Entry.usage_period_start)
        )
        return _read(self._session, query, (Entry.item, item), (Entry.price_id, price_id))


def elsewhere(session: Session, charge: Charge, parts: Sequence[Part]) -> list[Part]:
    """The parts that are not the charge itself, each with the invoice that bills it."""
    own = (charge.period_start, charge.usage_period_start, charge.item, charge.price_id)
    others = [part for part in parts if (part.period_start, part.usage_period_start, part.item, part.price_id) != own]
    invoices = session.scalars(
        select(Invoice)
        .where(
            Invoice.customer_id == charge.customer_id,
            Invoice.kind == "cycle",
            Invoice.period_start.in_({part.period_start for part in others}),
        )
        .order_by(Invoice.generation)
    )
    of_period = {invoice.period_start: invoice for invoice in invoices}  # the last re-issue counts
    return [replace(part, invoice=of_period.get(part.period_start)) for part in others if part.amount or part.quantity]


def _read(session: Session, query: Select[*tuple[Any, ...]], *wanted: tuple[Any, object]) -> list[Part]:
    """The rows of the query that have what is wanted in a column, where something is."""
    for column, value in wanted:
        if value is not None:
            query = query.where(column == value)
    return [Part(row[0], row[1], row[2], row[3], row[4] or ZERO, row[5]) for row in session.execute(query)]


def _rating_period(session: Session, charge: Charge, *, until: datetime | None) -> tuple[datetime, list[datetime]]:
    """From when on the charge's rating period counts, and the periods that are parts of it."""
    start = rating_start_of(session, customer_id=charge.customer_id, period_start=charge.usage_period_start)
    query = select(PeriodRow.start_at).where(PeriodRow.customer_id == charge.customer_id, PeriodRow.start_at >= start)
    if until is not None:
        query = query.where(PeriodRow.start_at <= until)
    known = [(charge.customer_id, period) for period in session.scalars(query)]
    starts = rating_starts_of(session, known)
    return start, sorted(period for (_, period), found in starts.items() if found == start)
