"""What every report is made of: amounts moved between two accounts, as of now or of a past moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Date, FromClause, Row, Select, Subquery, and_, cast, func, literal, null, select, text, true
from sqlalchemy.orm import Session

from ledger.tables import TOTALS, Books, Entry, PeriodRow

FETCHED = 2_000
"""Rows fetched at a time: what a report holds in memory, however long it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a report counts. None leaves a side open.

    `effective_before` (exclusive) and `known_at` (inclusive) are those of the time machine: what had happened, and
    what had been recorded by then. Without both a report reads the running totals, and costs as much as these have
    rows; with one of them it reads the entries.
    """

    customer_id: UUID | None = None
    currency: str | None = None
    effective_before: datetime | None = None
    known_at: datetime | None = None

    @property
    def is_now(self) -> bool:
        return self.effective_before is None and self.known_at is None


def moves(scope: Scope) -> Subquery:
    """The amounts in scope with customer_id, currency, document_id, both accounts, item, day, quantity and entries.

    `day` is the running totals' own, also where the entries are read: the customer's local one for charges, as the
    panel shows it, and that of UTC for everything else.
    """
    query = _of_totals() if scope.is_now else _of_entries(scope)
    if scope.customer_id is not None:
        query = query.where(Books.customer_id == scope.customer_id)
    if scope.currency is not None:
        query = query.where(Books.currency == scope.currency)
    return query.subquery("moves")


def _of_totals() -> Select[*tuple[Any, ...]]:
    kept = TOTALS.c
    return select(
        Books.customer_id,
        Books.currency,
        kept.document_id,
        kept.debit_account,
        kept.credit_account,
        kept.item,
        kept.day,
        kept.amount,
        kept.quantity,
        kept.entries,
    ).join_from(TOTALS, Books, Books.customer_id == kept.customer_id)


def _of_entries(scope: Scope) -> Select[*tuple[Any, ...]]:
    used = and_(PeriodRow.customer_id == Entry.customer_id, PeriodRow.start_at == Entry.usage_period_start)
    local = func.timezone(func.coalesce(PeriodRow.time_zone, "UTC"), Entry.effective_at)
    return (
        select(
            Books.customer_id,
            Books.currency,
            Entry.document_id,
            Entry.debit_account,
            Entry.credit_account,
            Entry.item,
            cast(local, Date).label("day"),
            Entry.amount,
            func.coalesce(Entry.quantity, 0).label("quantity"),
            literal(1).label("entries"),
        )
        .join_from(Entry, Books, Books.customer_id == Entry.customer_id)
        .outerjoin(PeriodRow, used)
        .where(
            true() if scope.effective_before is None else Entry.effective_at < scope.effective_before,
            true() if scope.known_at is None else Entry.recorded_at <= scope.known_at,
        )
    )


def named(query: Select[*tuple[Any, ...]], *, customer_id: Any, names: FromClause | None) -> Select[*tuple[Any, ...]]:
    """Add what the ledger does not know: `names` is a subquery with `customer_id`, `external_id` and `name`."""
    if names is None:
        return query.add_columns(null().label("external_id"), null().label("name"))
    return query.add_columns(names.c.external_id, names.c.name).outerjoin(names, names.c.customer_id == customer_id)


def stream(session: Session, query: Select[*tuple[Any, ...]]) -> Iterator[Row[*tuple[Any, ...]]]:
    """The rows, through a server-side cursor within this session's transaction."""
    # Whoever reads may pause for longer than an idle transaction is allowed to live.
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    yield from session.execute(query, execution_options={"yield_per": FETCHED})
