"""Selections: which entries an amount is made of, in the journal and in the running totals alike."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Date, FromClause, and_, case, cast, func, or_, select

from ledger.tables import TOTALS, Entry, PeriodRow


class Anything(Enum):
    """What a filter that does not narrow is set to: None already means "has none"."""

    ANYTHING = "anything"


ANYTHING: Final = Anything.ANYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which entries an amount is made of: those that moved `account` and, where a filter is given, match it.

    A filter is ANYTHING, or a value, or None for entries that have none: `document_id=None` are the charges. `day` is
    the day of the effect as running totals keep it: in the time zone of the period of use, of other entries in UTC.
    """

    account: str
    contra_account: str | Anything = ANYTHING
    period_start: datetime | Anything | None = ANYTHING
    usage_period_start: datetime | Anything | None = ANYTHING
    document_id: UUID | Anything | None = ANYTHING
    item: str | Anything | None = ANYTHING
    price_id: UUID | Anything | None = ANYTHING
    day: date | Anything = ANYTHING
    app: str | Anything | None = ANYTHING
    region: str | Anything | None = ANYTHING


def kept_totals(customer_id: UUID, selection: Selection, *, normal: int) -> CTE:
    """The running totals of the selection, each signed: `normal` is 1 if a debit raises the account, else -1."""
    is_debit = TOTALS.c.debit_account == selection.account
    sign = case((is_debit, normal), else_=-normal)
    return (
        select(
            TOTALS.c.item,
            TOTALS.c.day,
            case((is_debit, TOTALS.c.credit_account), else_=TOTALS.c.debit_account).label("contra"),
            (TOTALS.c.amount * sign).label("amount"),
            (TOTALS.c.quantity * sign).label("quantity"),
            TOTALS.c.entries,
        )
        .where(
            TOTALS.c.customer_id == customer_id,
            *_common_conditions(TOTALS, selection),
            *_equals(TOTALS.c.day, selection.day),
            *_equals(TOTALS.c.app, selection.app),
            *_equals(TOTALS.c.region, selection.region),
        )
        .cte("kept")
    )


def journal_condition(customer_id: UUID, selection: Selection) -> ColumnElement[bool]:
    """Which rows of the journal the selection takes."""
    entries = Entry.__table__
    zone = (
        select(PeriodRow.time_zone)
        .where(PeriodRow.customer_id == entries.c.customer_id, PeriodRow.start_at == entries.c.usage_period_start)
        .correlate(entries)
        .scalar_subquery()
    )
    # As the trigger that keeps the running totals says it.
    day = cast(func.timezone(func.coalesce(zone, "UTC"), entries.c.effective_at), Date)
    return and_(
        entries.c.customer_id == customer_id,
        *_common_conditions(entries, selection),
        *_around(entries.c.effective_at, selection.day),
        *_equals(day, selection.day),
        *_equals(entries.c.labels["app"].astext, selection.app),
        *_equals(entries.c.labels["region"].astext, selection.region),
    )


def _around(column: ColumnElement[Any], day: date | Anything) -> list[ColumnElement[bool]]:
    """What a day of any time zone lies within: so the zone is looked up for few entries only."""
    if isinstance(day, Anything):
        return []
    midnight = datetime.combine(day, time.min, tzinfo=UTC)
    return [column >= midnight - timedelta(days=1), column < midnight + timedelta(days=2)]


def _common_conditions(source: FromClause, selection: Selection) -> list[ColumnElement[bool]]:
    columns = source.c
    sides: list[ColumnElement[bool]] = [
        and_(columns[one] == selection.account, *_equals(columns[other], selection.contra_account))
        for one, other in (("debit_account", "credit_account"), ("credit_account", "debit_account"))
    ]
    found: list[ColumnElement[bool]] = [or_(*sides)]
    for name in ("period_start", "usage_period_start", "document_id", "item", "price_id"):
        found += _equals(columns[name], getattr(selection, name))
    return found


def _equals(column: ColumnElement[Any], wanted: object) -> list[ColumnElement[bool]]:
    if wanted is ANYTHING:
        return []
    return [column.is_(None) if wanted is None else column == wanted]
