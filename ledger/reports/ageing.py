"""Receivables ageing: what customers owe, document by document, by how long it has been due."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, func, null, or_, select
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.reports.moves import Scope, moves, named, stream

AGES = ("current", "1-30", "31-60", "61-90", "90+")
"""Days after the due date, both ends included; "current" is not yet due, or due that very day; "90+" begins at 91."""
_LAST_DAYS = (0, 30, 60, 90)


@dataclass(frozen=True, slots=True)
class OpenReceivable:
    """What is still open of one document. `document_id` is None for a receivable that is about none (an opening)."""

    currency: str
    customer_id: UUID
    document_id: UUID | None
    number: str | None
    since: date
    """The day in UTC on which it became receivable."""
    due: date
    """`since`, unless the caller's `due` says otherwise."""
    days_overdue: int
    amount: Decimal
    """Debits minus credits, exact, in major units; negative if more was credited than was due."""
    external_id: str | None
    name: str | None

    @property
    def age(self) -> str:
        """One of AGES."""
        return age_of(self.days_overdue)


def age_of(days_overdue: int) -> str:
    """Which of AGES so many days after the due date belong to; negative ones are before it."""
    return next((age for age, last in zip(AGES, _LAST_DAYS, strict=False) if days_overdue <= last), AGES[-1])


def ageing(
    session: Session,
    *,
    scope: Scope,
    as_of: datetime,
    due: FromClause | None = None,
    names: FromClause | None = None,
) -> Iterator[OpenReceivable]:
    """Every document whose receivable is not 0, by currency, then the one that has been due longest; streamed.

    Ages are counted in days of UTC, up to the last day that `as_of` has seen: a report as of midnight of the 1st is one
    of the evening before. `due` may say what the ledger does not know: a subquery with `customer_id`, `document_id`,
    `number` and `due_on` (a date, or null). `names`: one with `customer_id`, `external_id` and `name`.
    """
    last_day = (as_of.astimezone(UTC) - timedelta(microseconds=1)).date()
    receivable = _open_documents(scope).subquery("receivable")
    number: ColumnElement[Any] = null().label("number")
    due_on: ColumnElement[Any] = receivable.c.since.label("due_on")
    query: Select[*tuple[Any, ...]] = select(receivable.c.currency, receivable.c.customer_id, receivable.c.document_id)
    if due is not None:
        number = due.c.number
        due_on = func.coalesce(due.c.due_on, receivable.c.since).label("due_on")
        mine = and_(due.c.customer_id == receivable.c.customer_id, due.c.document_id == receivable.c.document_id)
        query = query.outerjoin_from(receivable, due, mine)
    query = query.add_columns(number, receivable.c.since, due_on, receivable.c.amount)
    query = named(query, customer_id=receivable.c.customer_id, names=names)
    order = (receivable.c.currency, due_on, receivable.c.customer_id, number, receivable.c.document_id)
    for row in stream(session, query.order_by(*order)):
        currency, customer_id, document_id, found_number, since, due_day, amount, external_id, name = row
        yield OpenReceivable(
            currency,
            customer_id,
            document_id,
            found_number,
            since,
            due_day,
            (last_day - due_day).days,
            amount,
            external_id,
            name,
        )


def _open_documents(scope: Scope) -> Select[*tuple[Any, ...]]:
    moved = moves(scope).c
    is_debit = moved.debit_account == accounts.RECEIVABLE
    amount = func.sum(case((is_debit, moved.amount), else_=-moved.amount))
    # What only ever was credited never became receivable; then its first credit has to do.
    since = func.coalesce(func.min(moved.day).filter(is_debit), func.min(moved.day))
    return (
        select(
            moved.currency,
            moved.customer_id,
            moved.document_id,
            since.label("since"),
            amount.label("amount"),
        )
        .where(or_(is_debit, moved.credit_account == accounts.RECEIVABLE))
        .group_by(moved.currency, moved.customer_id, moved.document_id)
        .having(amount != 0)
    )
